//! JSON as far as a document needs it: checked whole, and taken apart one object at a time.
//!
//! Keeps positions instead of values, so that hostile input costs no more memory than its own size. Deliberately knows no
//! numbers and builds no tree.

use alloc::string::String;
use alloc::vec::Vec;

use crate::layout::{MAX_DOCUMENT_DEPTH, MAX_DOCUMENT_MEMBERS};

/// Why a text is no JSON, or none that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotJson {
    /// Position in bytes.
    pub(crate) at: usize,
    /// Why.
    pub(crate) why: &'static str,
}

/// Member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// Its name, unescaped.
    pub(crate) name: String,
    /// The text of its value.
    pub(crate) value: &'a str,
}

impl Member<'_> {
    /// Tells whether the value is an object.
    pub(crate) fn is_object(&self) -> bool {
        self.value.starts_with('{')
    }
}

/// Parses a text that is one object and lists its members, whose names differ.
pub(crate) fn members(text: &str) -> Result<Vec<Member<'_>>, NotJson> {
    let mut scanner = Scanner { text, at: 0 };
    let mut members = Vec::new();
    scanner.space();
    scanner.expect(b'{', "there is no object")?;
    scanner.space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
    } else {
        loop {
            if members.len() >= MAX_DOCUMENT_MEMBERS {
                return Err(scanner.fail("an object has too many members"));
            }
            let mut name = String::new();
            scanner.space();
            scanner.name(Some(&mut name))?;
            scanner.space();
            let start = scanner.at;
            scanner.value()?;
            members.push(Member { name, value: &text[start..scanner.at] });
            scanner.space();
            match scanner.next() {
                Some(b',') => {}
                Some(b'}') => break,
                _ => return Err(scanner.fail("an object is not closed")),
            }
        }
    }
    scanner.space();
    if scanner.at < text.len() {
        return Err(scanner.fail("something follows the end"));
    }
    let mut names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(scanner.fail("an object has two members of one name"));
    }
    Ok(members)
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn fail(&self, why: &'static str) -> NotJson {
        NotJson { at: self.at, why }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let next = self.peek();
        self.at += usize::from(next.is_some());
        next
    }

    fn expect(&mut self, wanted: u8, why: &'static str) -> Result<(), NotJson> {
        if self.peek() != Some(wanted) {
            return Err(self.fail(why));
        }
        self.at += 1;
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Passes one value.
    fn value(&mut self) -> Result<(), NotJson> {
        // Objects (true) and arrays (false) that are open.
        let mut open: Vec<bool> = Vec::new();
        loop {
            self.space();
            match self.peek() {
                Some(bracket @ (b'{' | b'[')) => {
                    self.at += 1;
                    if open.len() >= MAX_DOCUMENT_DEPTH {
                        return Err(self.fail("it is nested too deep"));
                    }
                    let is_object = bracket == b'{';
                    self.space();
                    if self.peek() == Some(if is_object { b'}' } else { b']' }) {
                        self.at += 1;
                    } else {
                        if is_object {
                            self.name(None)?;
                        }
                        open.push(is_object);
                        continue;
                    }
                }
                Some(b'"') => self.string(None)?,
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.literal("true")?,
                Some(b'f') => self.literal("false")?,
                Some(b'n') => self.literal("null")?,
                _ => return Err(self.fail("there is no value")),
            }
            // A value has ended, and what it ends with it.
            loop {
                let Some(&is_object) = open.last() else { return Ok(()) };
                self.space();
                match (self.next(), is_object) {
                    (Some(b','), true) => {
                        self.space();
                        self.name(None)?;
                        break;
                    }
                    (Some(b','), false) => break,
                    (Some(b'}'), true) | (Some(b']'), false) => drop(open.pop()),
                    _ => return Err(self.fail("an object or array is not closed")),
                }
            }
        }
    }

    /// Passes the name of a member and the colon behind it.
    fn name(&mut self, name: Option<&mut String>) -> Result<(), NotJson> {
        if self.peek() != Some(b'"') {
            return Err(self.fail("there is no name of a member"));
        }
        self.string(name)?;
        self.space();
        self.expect(b':', "there is no colon behind a name")
    }

    /// Passes a string, unescaping it on the way.
    fn string(&mut self, mut out: Option<&mut String>) -> Result<(), NotJson> {
        let mut keep = |character: char| {
            if let Some(out) = out.as_deref_mut() {
                out.push(character);
            }
        };
        self.at += 1;
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let Some(character) = rest.chars().next() else {
                return Err(self.fail("a string is not closed"));
            };
            self.at += character.len_utf8();
            match character {
                '"' => return Ok(()),
                '\\' => keep(self.escape()?),
                '\0'..='\x1f' => return Err(self.fail("a string holds a control character")),
                other => keep(other),
            }
        }
    }

    /// Passes what follows a backslash.
    fn escape(&mut self) -> Result<char, NotJson> {
        let code = match self.next() {
            Some(b'b') => return Ok('\x08'),
            Some(b'f') => return Ok('\x0c'),
            Some(b'n') => return Ok('\n'),
            Some(b'r') => return Ok('\r'),
            Some(b't') => return Ok('\t'),
            Some(same @ (b'"' | b'\\' | b'/')) => return Ok(char::from(same)),
            Some(b'u') => self.hex()?,
            _ => return Err(self.fail("a string holds an unknown escape")),
        };
        let low = if (0xd800..0xdc00).contains(&code) {
            if self.next() != Some(b'\\') || self.next() != Some(b'u') {
                return Err(self.fail("a string holds half a character"));
            }
            Some(self.hex()?)
        } else {
            None
        };
        let units = [Some(code), low].into_iter().flatten();
        match char::decode_utf16(units).next() {
            Some(Ok(character)) => Ok(character),
            _ => Err(self.fail("a string holds half a character")),
        }
    }

    fn hex(&mut self) -> Result<u16, NotJson> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.next().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return Err(self.fail("an escape is no number")) };
            code = code << 4 | digit as u16;
        }
        Ok(code)
    }

    fn literal(&mut self, literal: &'static str) -> Result<(), NotJson> {
        if !self.text.get(self.at..).is_some_and(|rest| rest.starts_with(literal)) {
            return Err(self.fail("there is no value"));
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.fail("a number has no digits")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.fail("a number has no digits")) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
