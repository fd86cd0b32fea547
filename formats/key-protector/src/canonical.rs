//! Exclusive XML canonicalisation of one element, without comments.
//!
//! Both outer signatures of a key protector cover the `Wrappings` element in the form of
//! `http://www.w3.org/2001/10/xml-exc-c14n#`. This module computes it for every document that MS-KPS allows and
//! fails with a [`CanonicalizationError`] on XML whose treatment it does not cover.
//!
//! It takes no list of inclusive prefixes and no node sets other than one whole element.

use alloc::string::String;
use alloc::vec::Vec;

use roxmltree::{Attribute, Node};

use crate::error::CanonicalizationError;

/// A namespace declaration that stands on the open elements of the output.
struct Rendered<'a> {
    prefix: &'a str,
    uri: &'a str,
    level: usize,
}

/// An element whose end tag is not written yet.
struct Open<'a, 't> {
    node: Node<'a, 't>,
    qualified_name: &'t str,
}

/// Computes the canonical form of an element.
///
/// # Errors
/// [`CanonicalizationError`] if the element holds XML that is not covered.
pub(crate) fn canonical_form(element: Node<'_, '_>) -> Result<String, CanonicalizationError> {
    let source = element.document().input_text();
    let range = element.range();
    if source[range.clone()].contains("&#") {
        return Err(CanonicalizationError::CharacterReference);
    }
    if source[range.clone()].contains("<![CDATA[") {
        return Err(CanonicalizationError::CdataSection);
    }
    let mut output = String::with_capacity(range.len() + 128);
    let mut rendered: Vec<Rendered<'_>> = Vec::new();
    let mut open: Vec<Open<'_, '_>> = Vec::new();
    let mut next = Some(element);
    loop {
        let Some(node) = next else {
            // No child or sibling is left: close an element and go on behind it.
            let Some(closed) = open.pop() else { return Ok(output) };
            output.push_str("</");
            output.push_str(closed.qualified_name);
            output.push('>');
            rendered.retain(|declaration| declaration.level <= open.len());
            if open.is_empty() {
                return Ok(output);
            }
            next = closed.node.next_sibling();
            continue;
        };
        if node.is_element() {
            let qualified_name = qualified_name(source, node.range().start + 1);
            let level = open.len() + 1;
            start_tag(&mut output, source, node, qualified_name, level, &mut rendered)?;
            open.push(Open { node, qualified_name });
            next = node.first_child();
            continue;
        }
        if node.is_pi() {
            return Err(CanonicalizationError::ProcessingInstruction);
        }
        if node.is_text() {
            escape_text(&mut output, node.text().unwrap_or_default())?;
        }
        next = node.next_sibling();
    }
}

fn start_tag<'a, 't: 'a>(
    output: &mut String,
    source: &'t str,
    node: Node<'a, 't>,
    qualified_name: &'t str,
    level: usize,
    rendered: &mut Vec<Rendered<'a>>,
) -> Result<(), CanonicalizationError> {
    output.push('<');
    output.push_str(qualified_name);

    let mut attributes: Vec<(Attribute<'a, 't>, &'t str)> = node
        .attributes()
        .map(|attribute| (attribute, self::qualified_name(source, attribute.range().start)))
        .collect();
    attributes.sort_by(|(a, _), (b, _)| {
        (a.namespace().unwrap_or_default(), a.name()).cmp(&(b.namespace().unwrap_or_default(), b.name()))
    });

    // The visibly used prefixes: that of the element, and those of its attributes. `xml` needs no declaration.
    let mut used: Vec<(&str, &str)> =
        alloc::vec![(prefix_of(qualified_name), node.tag_name().namespace().unwrap_or_default())];
    for (attribute, name) in &attributes {
        if let (Some(uri), prefix) = (attribute.namespace(), prefix_of(name)) {
            used.push((prefix, uri));
        }
    }
    used.retain(|(prefix, _)| *prefix != "xml");
    used.sort_unstable();
    used.dedup();
    for (prefix, uri) in used {
        let in_force = rendered.iter().rev().find(|declaration| declaration.prefix == prefix);
        // Without a default namespace in force, `xmlns=""` says nothing and is not written.
        if in_force.map_or("", |declaration| declaration.uri) == uri {
            continue;
        }
        if !uri.is_empty() && (!uri.contains(':') || uri.contains(['&', '<', '"'])) {
            return Err(CanonicalizationError::NamespaceName { uri: uri.into() });
        }
        output.push_str(" xmlns");
        if !prefix.is_empty() {
            output.push(':');
            output.push_str(prefix);
        }
        output.push_str("=\"");
        escape_attribute(output, uri)?;
        output.push('"');
        rendered.push(Rendered { prefix, uri, level });
    }
    for (attribute, name) in attributes {
        output.push(' ');
        output.push_str(name);
        output.push_str("=\"");
        escape_attribute(output, attribute.value())?;
        output.push('"');
    }
    output.push('>');
    Ok(())
}

/// The qualified name that begins at a position of the source.
fn qualified_name(source: &str, start: usize) -> &str {
    let rest = &source[start..];
    let end = rest.find([' ', '\t', '\r', '\n', '=', '/', '>']).unwrap_or(rest.len());
    &rest[..end]
}

fn prefix_of(qualified_name: &str) -> &str {
    qualified_name.split_once(':').map_or("", |(prefix, _)| prefix)
}

/// Writes text with the escapes of Canonical XML.
pub(crate) fn escape_text(output: &mut String, text: &str) -> Result<(), CanonicalizationError> {
    if !text.bytes().any(|byte| matches!(byte, b'&' | b'<' | b'>' | b'\r')) {
        // Nearly all text is base64.
        output.push_str(text);
        return Ok(());
    }
    for c in text.chars() {
        match c {
            '&' => output.push_str("&amp;"),
            '<' => output.push_str("&lt;"),
            '>' => output.push_str("&gt;"),
            '\r' => return Err(CanonicalizationError::CarriageReturn),
            other => output.push(other),
        }
    }
    Ok(())
}

/// Writes an attribute value with the escapes of Canonical XML.
///
/// Tabs and line ends cannot occur: the XML parser makes them spaces, and character references are refused.
pub(crate) fn escape_attribute(output: &mut String, value: &str) -> Result<(), CanonicalizationError> {
    for c in value.chars() {
        match c {
            '&' => output.push_str("&amp;"),
            '<' => output.push_str("&lt;"),
            '"' => output.push_str("&quot;"),
            '\t' | '\n' | '\r' => return Err(CanonicalizationError::CarriageReturn),
            other => output.push(other),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
