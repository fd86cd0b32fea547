//! Strict reading of XML elements.
//!
//! A thin layer over `roxmltree` that adds limits before parsing (the parser's own checks are quadratic in the
//! attributes and namespace declarations of a tag) and the cursor [`Elements`], which takes child elements in
//! the fixed order of the schema and refuses anything else.
//!
//! It knows XML, not key protectors.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use roxmltree::{Document, Node, ParsingOptions};

use crate::error::Corruption;
use crate::layout::{
    KPS_NAMESPACE, MAX_EQUAL_SIGNS_PER_TAG, MAX_NAMESPACE_DECLARATIONS, MAX_XML_DEPTH, MAX_XML_NODES,
};

/// Parses a text into a tree, within limits, without document type and entities.
pub(crate) fn parse(text: &str) -> Result<Document<'_>, Corruption> {
    if text.contains("<!DOCTYPE") {
        return Err(Corruption::DocumentType);
    }
    if text.matches("xmlns").count() > MAX_NAMESPACE_DECLARATIONS {
        return Err(Corruption::TooMany { what: "namespace declarations", max: MAX_NAMESPACE_DECLARATIONS });
    }
    check_attribute_counts(text)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: MAX_XML_NODES, entity_resolver: None };
    let document = Document::parse_with_options(text, options).map_err(|error| from_parser(&error))?;
    check_depth(document.root_element())?;
    Ok(document)
}

/// An attribute value cannot hold `<`, so all attributes of a tag lie between one `<` and the next.
fn check_attribute_counts(text: &str) -> Result<(), Corruption> {
    let (mut count, mut last) = (0, 0);
    for (at, _) in text.match_indices('=') {
        if text[last..at].contains('<') {
            count = 0;
        }
        count += 1;
        last = at;
        if count > MAX_EQUAL_SIGNS_PER_TAG {
            return Err(Corruption::TooMany { what: "attributes in a tag", max: MAX_EQUAL_SIGNS_PER_TAG });
        }
    }
    Ok(())
}

fn from_parser(error: &roxmltree::Error) -> Corruption {
    let position = error.pos();
    let (line, column) = (position.row, position.col);
    match error {
        roxmltree::Error::DtdDetected => Corruption::DocumentType,
        roxmltree::Error::NodesLimitReached => {
            Corruption::TooMany { what: "XML nodes", max: MAX_XML_NODES as usize }
        }
        roxmltree::Error::UnknownEntityReference(..) => Corruption::Entity { line, column },
        other => Corruption::Xml { line, column, reason: other.to_string() },
    }
}

fn check_depth(root: Node<'_, '_>) -> Result<(), Corruption> {
    let mut node = root;
    let mut depth = 1;
    loop {
        if depth > MAX_XML_DEPTH {
            return Err(Corruption::TooMany { what: "levels of nested elements", max: MAX_XML_DEPTH });
        }
        if let Some(child) = node.first_child() {
            node = child;
            depth += 1;
            continue;
        }
        loop {
            if node == root {
                return Ok(());
            }
            if let Some(sibling) = node.next_sibling() {
                node = sibling;
                break;
            }
            match node.parent() {
                Some(parent) => node = parent,
                None => return Ok(()),
            }
            depth -= 1;
        }
    }
}

/// The root element, which must have the given name.
pub(crate) fn root<'a, 't>(
    document: &'a Document<'t>,
    expected: &'static str,
) -> Result<Node<'a, 't>, Corruption> {
    let root = document.root_element();
    if root.has_tag_name((KPS_NAMESPACE, expected)) {
        return Ok(root);
    }
    Err(Corruption::Root {
        expected,
        found: name_of(root),
        namespace: root.tag_name().namespace().unwrap_or_default().to_owned(),
    })
}

/// Local name of an element, for messages.
pub(crate) fn name_of(node: Node<'_, '_>) -> String {
    node.tag_name().name().to_owned()
}

/// The child elements of an element, taken in the order of the schema.
pub(crate) struct Elements<'a, 't> {
    parent: Node<'a, 't>,
    children: Vec<Node<'a, 't>>,
    next: usize,
}

impl<'a, 't> Elements<'a, 't> {
    /// Begins to read an element that holds only elements, white space and comments.
    pub(crate) fn of(parent: Node<'a, 't>) -> Result<Self, Corruption> {
        let mut children = Vec::new();
        for child in parent.children() {
            if child.is_element() {
                children.push(child);
            } else if child.is_text() && !child.text().unwrap_or_default().chars().all(is_xml_space) {
                return Err(Corruption::UnexpectedText { parent: name_of(parent) });
            }
        }
        Ok(Self { parent, children, next: 0 })
    }

    /// Takes the next element if it has the given name.
    pub(crate) fn optional(&mut self, name: &'static str) -> Option<Node<'a, 't>> {
        let node = *self.children.get(self.next)?;
        if !node.has_tag_name((KPS_NAMESPACE, name)) {
            return None;
        }
        self.next += 1;
        Some(node)
    }

    /// Takes the next element, which must have the given name.
    pub(crate) fn required(&mut self, name: &'static str) -> Result<Node<'a, 't>, Corruption> {
        self.optional(name).ok_or_else(|| Corruption::MissingElement {
            parent: name_of(self.parent),
            expected: name,
            found: self.children.get(self.next).map(|node| name_of(*node)),
        })
    }

    /// The elements not taken.
    pub(crate) fn rest(&self) -> &[Node<'a, 't>] {
        &self.children[self.next..]
    }

    /// Ends reading: no element may be left.
    pub(crate) fn end(self) -> Result<(), Corruption> {
        match self.rest().first() {
            Some(left) => {
                Err(Corruption::UnexpectedElement { parent: name_of(self.parent), found: name_of(*left) })
            }
            None => Ok(()),
        }
    }
}

/// The text of an element that holds nothing but text and comments.
pub(crate) fn text_of(node: Node<'_, '_>) -> Result<String, Corruption> {
    let mut text = String::new();
    for child in node.children() {
        if child.is_element() {
            return Err(Corruption::UnexpectedElement { parent: name_of(node), found: name_of(child) });
        }
        if child.is_text() {
            text.push_str(child.text().unwrap_or_default());
        }
    }
    Ok(text)
}

/// The content of an `unsignedInt` element.
pub(crate) fn number_of(node: Node<'_, '_>, place: &'static str) -> Result<u32, Corruption> {
    check_attributes(node, &[])?;
    parse_number(&text_of(node)?, place)
}

/// The content of a `base64Binary` element, of 1 to `max` bytes.
pub(crate) fn binary_of(node: Node<'_, '_>, place: &'static str, max: usize) -> Result<Vec<u8>, Corruption> {
    check_attributes(node, &[])?;
    let text = text_of(node)?;
    let bytes = STANDARD
        .decode(&text)
        .or_else(|_| STANDARD.decode(text.split(is_xml_space).collect::<String>()))
        .map_err(|_| Corruption::Base64 { place })?;
    if bytes.is_empty() || bytes.len() > max {
        return Err(Corruption::BinarySize { place, max, have: bytes.len() });
    }
    Ok(bytes)
}

/// Refuses unqualified attributes besides the given ones. Attributes of other namespaces are carried.
pub(crate) fn check_attributes(node: Node<'_, '_>, known: &[&str]) -> Result<(), Corruption> {
    match node.attributes().find(|found| found.namespace().is_none() && !known.contains(&found.name())) {
        Some(found) => Err(Corruption::UnexpectedAttribute {
            element: name_of(node),
            attribute: found.name().to_owned(),
        }),
        None => Ok(()),
    }
}

/// An unqualified attribute that must be present.
pub(crate) fn attribute<'a>(node: Node<'a, '_>, name: &'static str) -> Result<&'a str, Corruption> {
    node.attribute(name)
        .ok_or_else(|| Corruption::MissingAttribute { element: name_of(node), attribute: name })
}

/// An `unsignedInt` attribute that must be present.
pub(crate) fn number_attribute(node: Node<'_, '_>, name: &'static str) -> Result<u32, Corruption> {
    parse_number(attribute(node, name)?, name)
}

/// Parses an `unsignedInt`: decimal digits, white space around them.
pub(crate) fn parse_number(text: &str, place: &'static str) -> Result<u32, Corruption> {
    let digits = text.trim_matches(is_xml_space);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Corruption::Number { place });
    }
    digits.parse().map_err(|_| Corruption::Number { place })
}

/// Position of an element's end tag. The element must have one: it is not an empty-element tag.
pub(crate) fn end_tag_of(text: &str, element: Range<usize>) -> usize {
    text[element.clone()].rfind("</").map_or(element.end, |offset| element.start + offset)
}

fn is_xml_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}
