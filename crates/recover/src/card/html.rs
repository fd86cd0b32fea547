//! The card as one HTML page. Its script only checks blocks as they are typed; it sends and keeps nothing.

use std::fmt::Write as _;

use super::{CHECK, HandoverCard, braced};

const HEAD: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>BitLocker recovery: a secret is needed</title>
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">
<style>
body{font:15px/1.4 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#111;background:#fff}
h1{font-size:1.4em}h2{font-size:1.05em;margin:1.2em 0 .3em}
code,pre,input{font:13px/1.4 ui-monospace,monospace}
pre{background:#f3f3f3;padding:.6em;white-space:pre-wrap;overflow-wrap:anywhere;margin:.2em 0}
table{border-collapse:collapse}td{padding:.1em 1em .1em 0;vertical-align:top}
.block{width:5.2em;text-align:center;border:1px solid #777;padding:.3em}
.right{border-color:#070;background:#efe}.wrong{border-color:#a00;background:#fee}
.note{border-left:4px solid #a60;padding-left:.8em}
@media print{body{margin:0;font-size:11px}.block{height:1.6em}}
</style></head><body>
<h1>BitLocker recovery: a secret is needed</h1>
<p class=\"note\">A virtual machine is lost and only its disk is left. One of the secrets below opens it. This card holds no
secret; the answer does: send it by a way that you would send a password.</p>
";

const SCRIPT: &str = "<script>
for (const one of document.querySelectorAll('.block')) one.addEventListener('input', () => {
  const digits = one.value.replace(/[^0-9]/g, '');
  const number = Number(digits);
  one.classList.toggle('right', digits.length === 6 && number % 11 === 0 && number < 720896);
  one.classList.toggle('wrong', digits.length > 6 || (digits.length === 6 && (number % 11 !== 0 || number >= 720896)));
});
</script></body></html>
";

pub(super) fn page(card: &HandoverCard) -> String {
    let mut page = String::from(HEAD);
    // Writing to a String cannot fail.
    let _ = write_body(card, &mut page);
    page.push_str(SCRIPT);
    page
}

fn write_body(card: &HandoverCard, out: &mut String) -> std::fmt::Result {
    for volume in &card.volumes {
        writeln!(out, "<h2>Disk {}, volume {}</h2><table>", escaped(&volume.disk), volume.number)?;
        let mut row = |name: &str, value: &str| {
            writeln!(out, "<tr><td>{name}</td><td><code>{}</code></td></tr>", escaped(value))
        };
        if let Some(description) = &volume.description {
            row("Windows called it", description)?;
        }
        row("BitLocker volume", &volume.volume_id.to_string())?;
        for id in &volume.recovery {
            row("<b>Recovery password</b>", &braced(*id))?;
        }
        for id in &volume.external {
            row("<b>Recovery key file</b>", &format!("{}.BEK", id.to_string().to_uppercase()))?;
        }
        for thumbprint in &volume.thumbprints {
            row("Certificate", &crate::journal::hex(thumbprint))?;
        }
        writeln!(out, "</table>")?;
        for remark in volume.remarks() {
            writeln!(out, "<p>{remark}</p>")?;
        }
    }
    for (title, lines) in card.queries() {
        writeln!(out, "<h2>{title}</h2>")?;
        for line in lines {
            writeln!(out, "<pre>{}</pre>", escaped(&line))?;
        }
    }
    writeln!(
        out,
        "<h2>Answer</h2><p>{CHECK} A right block turns green here. Nothing that is typed leaves this page.</p>"
    )?;
    for volume in &card.volumes {
        for id in &volume.recovery {
            writeln!(out, "<p><code>{}</code></p><p>", braced(*id))?;
            for block in 1..=8 {
                writeln!(
                    out,
                    "<input class=\"block\" inputmode=\"numeric\" autocomplete=\"off\" maxlength=\"6\" aria-label=\"block {block} of 8\">"
                )?;
            }
            writeln!(out, "</p>")?;
        }
    }
    writeln!(
        out,
        "<h2>Back at the disk</h2><pre>lifeboat recover DISK --recovery-password-file FILE --verify-only</pre>"
    )
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}
