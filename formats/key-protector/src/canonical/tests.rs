//! Canonical forms worked out by hand from Exclusive XML Canonicalization 1.0.

use alloc::string::String;

use roxmltree::Document;

use super::canonical_form;
use crate::error::CanonicalizationError;

/// The canonical form of the first element inside the root.
fn form(xml: &str) -> Result<String, CanonicalizationError> {
    let document = Document::parse(xml).unwrap();
    canonical_form(document.root_element().first_element_child().unwrap())
}

#[track_caller]
fn check(xml: &str, expected: &str) {
    assert_eq!(form(xml).as_deref(), Ok(expected), "{xml}");
}

#[test]
fn inherited_namespaces_are_declared_where_used() {
    check(r#"<r xmlns="urn:r"><e><f/></e></r>"#, r#"<e xmlns="urn:r"><f></f></e>"#);
    // Unused prefixes are not; used ones at every element that uses them first.
    check(
        r#"<r xmlns="urn:r" xmlns:p="urn:p" xmlns:q="urn:q"><e><p:f/><p:f/></e></r>"#,
        r#"<e xmlns="urn:r"><p:f xmlns:p="urn:p"></p:f><p:f xmlns:p="urn:p"></p:f></e>"#,
    );
    check(r#"<p:r xmlns:p="urn:p"><p:e><p:f/></p:e></p:r>"#, r#"<p:e xmlns:p="urn:p"><p:f></p:f></p:e>"#);
    // A prefix that an attribute uses is declared too; `xml` never.
    check(
        r#"<r xmlns:p="urn:p"><e xml:lang="en" p:a="1"/></r>"#,
        r#"<e xmlns:p="urn:p" xml:lang="en" p:a="1"></e>"#,
    );
}

#[test]
fn declarations_are_repeated_only_when_they_change() {
    check(
        r#"<r xmlns="urn:r"><e xmlns="urn:r"><f xmlns="urn:r"/></e></r>"#,
        r#"<e xmlns="urn:r"><f></f></e>"#,
    );
    check(
        r#"<r xmlns="urn:r"><e><f xmlns=""><g/></f><h/></e></r>"#,
        r#"<e xmlns="urn:r"><f xmlns=""><g></g></f><h></h></e>"#,
    );
    check(r#"<r><e xmlns=""><f/></e></r>"#, "<e><f></f></e>");
    check(
        r#"<r xmlns:p="urn:1"><p:e><p:f xmlns:p="urn:2"/><p:f/></p:e></r>"#,
        r#"<p:e xmlns:p="urn:1"><p:f xmlns:p="urn:2"></p:f><p:f></p:f></p:e>"#,
    );
}

#[test]
fn attributes_are_sorted_and_quoted_one_way() {
    // By namespace name, then by local name: unqualified first, and not by prefix.
    check(
        "<r xmlns:a='urn:z' xmlns:b='urn:a'><e z='1' y = \"2\"\n a:k='3' b:k='4' /></r>",
        r#"<e xmlns:a="urn:z" xmlns:b="urn:a" y="2" z="1" b:k="4" a:k="3"></e>"#,
    );
    check("<r><e a='\"&amp;&lt;>\t\r\n.'/></r>", r#"<e a="&quot;&amp;&lt;>  ."></e>"#);
}

#[test]
fn text_is_escaped_and_comments_are_dropped() {
    check("<r><e>a&amp;b&lt;c>\"\r\nd\re</e></r>", "<e>a&amp;b&lt;c&gt;\"\nd\ne</e>");
    check("<r><e> <!-- note --><f></f >\n</e>tail</r>", "<e> <f></f>\n</e>");
}

#[test]
fn what_is_not_covered_is_refused() {
    use CanonicalizationError as Refused;
    assert_eq!(form("<r><e>&#13;</e></r>"), Err(Refused::CharacterReference));
    assert_eq!(form("<r><e><![CDATA[x]]></e></r>"), Err(Refused::CdataSection));
    assert_eq!(form("<r><e><?x?></e></r>"), Err(Refused::ProcessingInstruction));
    for name in ["relative", "urn:a&amp;b"] {
        let uri = name.replace("&amp;", "&");
        assert_eq!(form(&alloc::format!("<r xmlns='{name}'><e/></r>")), Err(Refused::NamespaceName { uri }));
    }
    // Outside of the element, none of them matters.
    check("<r>&#13;<e/><![CDATA[x]]><?x?></r>", "<e></e>");
}
