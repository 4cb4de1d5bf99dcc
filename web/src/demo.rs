//! The tutorial's raw protocol: what becomes of one message, as a pure function.
//!
//! A client sends a JSON object; every connection of the room, the sender's included, gets the same
//! object with two fields set by the server. The object is not parsed into values and printed again
//! but copied, so that numbers (`1e400`, `0.1000`, integers of any size) and escapes (a lone
//! surrogate `\ud800` included) arrive as they were written.

use bytes::Bytes;
use thiserror::Error;
use uuid::Uuid;

use crate::protocol::Sample;

/// The deepest nesting of objects and arrays that is passed on; the message itself is level 1.
pub const NESTING_MAX: u32 = 128;

/// A position far outside every page: what a page that knows only moves can understand of a
/// cursor that is gone.
const NOWHERE: i32 = -10_000;

/// Why a message is not passed on. The connection stays open, except for [`Refusal::NotUtf8`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Not a JSON text (RFC 8259), or more than one, or with a byte order mark.
    #[error("not a JSON text")]
    Malformed,
    /// Nothing, or nothing but white space.
    #[error("empty")]
    Empty,
    /// A JSON text, but `null`, a number, a string, a boolean or an array.
    #[error("not a JSON object")]
    NotObject,
    /// Nested deeper than [`NESTING_MAX`].
    #[error("nested deeper than {NESTING_MAX} levels")]
    TooDeep,
    /// Not UTF-8; the connection is to be closed with code 1007.
    #[error("not UTF-8")]
    NotUtf8,
}

/// The text that the room gets for `input`, a message of `sender`.
///
/// The fields of the outermost object are copied byte for byte and in order, duplicates included,
/// without the white space between them; fields named `sender` or `color`, however the name is
/// escaped, are left out; at the end come `"sender"` and `"color"` (a hue, 0–359).
pub fn stamp(input: &[u8], sender: Uuid, color: u16) -> Result<Bytes, Refusal> {
    std::str::from_utf8(input).map_err(|_| Refusal::NotUtf8)?;
    let mut scanner = Scanner { input, at: 0 };
    scanner.white_space();
    let Some(first) = scanner.peek() else {
        return Err(Refusal::Empty);
    };
    if first != b'{' {
        scanner.value(0)?;
        scanner.end()?;
        return Err(Refusal::NotObject);
    }
    scanner.at += 1;

    let mut output = Vec::with_capacity(input.len() + STAMP_BYTES_MAX);
    output.push(b'{');
    scanner.white_space();
    if scanner.peek() == Some(b'}') {
        scanner.at += 1;
    } else {
        loop {
            scanner.white_space();
            let field = scanner.at;
            let name = scanner.string()?;
            scanner.colon()?;
            scanner.value(1)?;
            if !(name_is(name, b"sender") || name_is(name, b"color")) {
                output.extend_from_slice(&input[field..scanner.at]);
                output.push(b',');
            }
            scanner.white_space();
            match scanner.next() {
                Some(b',') => {}
                Some(b'}') => break,
                _ => return Err(Refusal::Malformed),
            }
        }
    }
    scanner.end()?;

    output.extend_from_slice(b"\"sender\":\"");
    output.extend_from_slice(
        sender
            .hyphenated()
            .encode_lower(&mut Uuid::encode_buffer())
            .as_bytes(),
    );
    output.extend_from_slice(b"\",\"color\":");
    output.extend_from_slice(color.to_string().as_bytes());
    output.push(b'}');
    Ok(Bytes::from(output))
}

/// The most that [`stamp`] adds to a message.
const STAMP_BYTES_MAX: usize =
    r#"{"sender":"00000000-0000-0000-0000-000000000000","color":65535}"#.len();

/// The last message of a sender that left.
pub fn left(sender: Uuid, color: u16) -> Bytes {
    Bytes::from(format!(
        r#"{{"x":{NOWHERE},"y":{NOWHERE},"left":true,"sender":"{sender}","color":{color}}}"#
    ))
}

/// A v1 cursor as tutorial pages know it.
pub(crate) fn cursor(sender: Uuid, color: u16, sample: Sample) -> Bytes {
    let Sample { x, y, .. } = sample;
    Bytes::from(format!(
        r#"{{"x":{x},"y":{y},"sender":"{sender}","color":{color}}}"#
    ))
}

/// The position that a message tells, if its `x` and `y` are numbers that a cursor can have;
/// `now_ms` is the time it is given.
pub(crate) fn position(text: &[u8], now_ms: u64) -> Option<Sample> {
    #[derive(serde::Deserialize)]
    struct Position {
        x: f64,
        y: f64,
    }
    let Position { x, y } = serde_json::from_slice(text).ok()?;
    Sample::new(now_ms as u16, x as f32, y as f32)
}

/// The hue that [`stamp`] wrote at the end of `text`; `None` if it did not write it.
pub fn color_of(text: &[u8]) -> Option<u16> {
    let body = text.strip_suffix(b"}")?;
    let digits = body
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (before, number) = body.split_at(body.len() - digits);
    if !before.ends_with(b"\"color\":") {
        return None;
    }
    std::str::from_utf8(number)
        .ok()?
        .parse()
        .ok()
        .filter(|hue| *hue < 360)
}

/// Reads JSON without building anything and without recursion.
struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// White space up to the end of the text.
    fn end(&mut self) -> Result<(), Refusal> {
        self.white_space();
        if self.at == self.input.len() {
            Ok(())
        } else {
            Err(Refusal::Malformed)
        }
    }

    fn colon(&mut self) -> Result<(), Refusal> {
        self.white_space();
        if self.next() == Some(b':') {
            Ok(())
        } else {
            Err(Refusal::Malformed)
        }
    }

    /// One value inside `outer` levels of nesting, white space before it included.
    fn value(&mut self, outer: u32) -> Result<(), Refusal> {
        let mut depth = outer;
        // One bit per level, the innermost lowest: set for an object, clear for an array.
        let mut objects: u128 = 0;
        loop {
            self.white_space();
            match self.peek().ok_or(Refusal::Malformed)? {
                open @ (b'{' | b'[') => {
                    self.at += 1;
                    depth += 1;
                    if depth > NESTING_MAX {
                        return Err(Refusal::TooDeep);
                    }
                    objects = (objects << 1) | u128::from(open == b'{');
                    self.white_space();
                    let close = if open == b'{' { b'}' } else { b']' };
                    if self.peek() != Some(close) {
                        if open == b'{' {
                            self.string()?;
                            self.colon()?;
                        }
                        continue;
                    }
                }
                b'"' => {
                    self.string()?;
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => return Err(Refusal::Malformed),
            }
            // A value ended (an empty container ends below): close what closes, or go on.
            loop {
                if depth == outer {
                    return Ok(());
                }
                self.white_space();
                let object = objects & 1 == 1;
                match self.next() {
                    Some(b',') => {
                        if object {
                            self.white_space();
                            self.string()?;
                            self.colon()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {}
                    Some(b']') if !object => {}
                    _ => return Err(Refusal::Malformed),
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    /// A string; gives what is between the quotes, as written.
    fn string(&mut self) -> Result<&'a [u8], Refusal> {
        if self.next() != Some(b'"') {
            return Err(Refusal::Malformed);
        }
        let start = self.at;
        loop {
            match self.next().ok_or(Refusal::Malformed)? {
                b'"' => return Ok(&self.input[start..self.at - 1]),
                b'\\' => match self.next() {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                    Some(b'u') => {
                        for _ in 0..4 {
                            if !self.next().is_some_and(|digit| digit.is_ascii_hexdigit()) {
                                return Err(Refusal::Malformed);
                            }
                        }
                    }
                    _ => return Err(Refusal::Malformed),
                },
                0..=0x1f => return Err(Refusal::Malformed),
                _ => {}
            }
        }
    }

    fn number(&mut self) -> Result<(), Refusal> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
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

    fn digits(&mut self) -> Result<(), Refusal> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start {
            Ok(())
        } else {
            Err(Refusal::Malformed)
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), Refusal> {
        if self.input[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(Refusal::Malformed)
        }
    }
}

/// Whether a valid string body, escapes and all, spells `name` (ASCII letters).
fn name_is(body: &[u8], name: &[u8]) -> bool {
    let mut rest = body;
    for expected in name {
        match rest {
            [b'\\', b'u', hex, tail @ ..] if tail.len() >= 3 => {
                let digits = [*hex, tail[0], tail[1], tail[2]];
                let unit = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|hex| u16::from_str_radix(hex, 16).ok());
                if unit != Some(u16::from(*expected)) {
                    return false;
                }
                rest = &tail[3..];
            }
            [byte, tail @ ..] if byte == expected => rest = tail,
            _ => return false,
        }
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    const SENDER: Uuid = Uuid::from_u128(0x0123_4567_89ab_4cde_8f01_2345_6789_abcd);
    const TAIL: &str = r#""sender":"01234567-89ab-4cde-8f01-23456789abcd","color":217}"#;

    fn stamped(input: &str) -> Result<String, Refusal> {
        stamp(input.as_bytes(), SENDER, 217).map(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    fn passes(input: &str, fields: &str) {
        assert_eq!(
            stamped(input).unwrap(),
            format!("{{{fields}{TAIL}"),
            "{input}"
        );
    }

    fn refused(input: &str, why: Refusal) {
        assert_eq!(stamped(input), Err(why), "{input}");
    }

    #[test]
    fn sender_and_color_come_last_and_the_rest_keeps_its_order() {
        passes(r#"{"x":1,"y":2}"#, r#""x":1,"y":2,"#);
        passes(
            r#"{"b":1,"a":2,"c":{"z":1,"y":[]}}"#,
            r#""b":1,"a":2,"c":{"z":1,"y":[]},"#,
        );
    }

    #[test]
    fn an_empty_object_gets_the_two_fields() {
        passes("{}", "");
        passes(" \t\r\n{ \n} ", "");
    }

    #[test]
    fn what_the_client_says_of_sender_and_color_is_left_out() {
        passes(r#"{"sender":"me","x":1,"color":"red"}"#, r#""x":1,"#);
        passes(r#"{"x":1,"sender":{"a":[1,2]}}"#, r#""x":1,"#);
        passes(r#"{"sender":1,"sender":2}"#, "");
        passes(
            r#"{"send\u0065r":1,"\u0063\u006F\u006c\u006fr":2,"x":3}"#,
            r#""x":3,"#,
        );
    }

    #[test]
    fn other_names_are_left_alone() {
        passes(
            r#"{"Sender":1,"senders":2,"sende":3,"":4}"#,
            r#""Sender":1,"senders":2,"sende":3,"":4,"#,
        );
        passes(
            r#"{"send\ud800r":1,"\\u0073ender":2}"#,
            r#""send\ud800r":1,"\\u0073ender":2,"#,
        );
        passes(
            r#"{"a":{"sender":1,"color":2}}"#,
            r#""a":{"sender":1,"color":2},"#,
        );
    }

    #[test]
    fn values_survive_as_written() {
        let fields = r#""n":1e400,"m":0.1000,"i":123456789012345678901234567890,"z":-0,"e":1E+5,"#;
        passes(&format!("{{{}}}", &fields[..fields.len() - 1]), fields);
        let fields = r#""s":"\ud800\u00e9\/\n é 🎈","#;
        passes(&format!("{{{}}}", &fields[..fields.len() - 1]), fields);
    }

    #[test]
    fn duplicates_pass_and_white_space_inside_a_field_stays() {
        passes(
            "{ \"x\" : 1 ,\n\"x\":[ 1 , 2 ] }",
            "\"x\" : 1,\"x\":[ 1 , 2 ],",
        );
    }

    #[test]
    fn malformed_text_is_refused() {
        for input in [
            "{",
            "}",
            "{\"x\"}",
            "{\"x\":}",
            "{\"x\":1,}",
            "{,}",
            "{\"x\":1 \"y\":2}",
            "{x:1}",
            "{'x':1}",
            "{\"x\":01}",
            "{\"x\":1.}",
            "{\"x\":.5}",
            "{\"x\":+1}",
            "{\"x\":1e}",
            "{\"x\":-}",
            "{\"x\":NaN}",
            "{\"x\":tru}",
            "{\"x\":\"\u{1}\"}",
            "{\"x\":\"\n\"}",
            "{\"x\":\"\\x\"}",
            "{\"x\":\"\\u12g4\"}",
            "{\"x\":\"",
            "{} {}",
            "{}x",
            "\u{feff}{}",
            "{\"x\":[1,]}",
            "{\"x\":[1}",
            "{\"x\":{]}",
            "nul",
            "[1,",
            "{\"x\":1}\0",
            "{\"x\":1}//",
            "\u{a0}{}",
        ] {
            refused(input, Refusal::Malformed);
        }
    }

    #[test]
    fn empty_text_and_white_space_are_refused() {
        refused("", Refusal::Empty);
        refused(" \r\n\t ", Refusal::Empty);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for input in [
            "null",
            "true",
            "false",
            "0",
            "-1.5e3",
            "\"{}\"",
            "[]",
            "[{\"x\":1}]",
        ] {
            refused(input, Refusal::NotObject);
        }
    }

    #[test]
    fn nesting_is_bounded_at_128_levels() {
        let nested = |levels: usize| {
            format!(
                "{{\"x\":{}{}}}",
                "[".repeat(levels - 1),
                "]".repeat(levels - 1)
            )
        };
        let objects =
            |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(stamped(&nested(128)).is_ok());
        assert!(stamped(&objects(128)).is_ok());
        refused(&nested(129), Refusal::TooDeep);
        refused(&objects(129), Refusal::TooDeep);
        refused(&"[".repeat(60_000), Refusal::TooDeep);
        refused(&"{\"a\":".repeat(10_000), Refusal::TooDeep);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_refused() {
        assert_eq!(stamp(b"{\"x\":\"\xff\"}", SENDER, 0), Err(Refusal::NotUtf8));
        assert_eq!(
            stamp(b"{\"x\":\"\xed\xa0\x80\"}", SENDER, 0),
            Err(Refusal::NotUtf8)
        );
    }

    #[test]
    fn the_hue_is_read_back() {
        assert_eq!(
            color_of(&stamp(b"{\"color\":1}", SENDER, 359).unwrap()),
            Some(359)
        );
        assert_eq!(color_of(&left(SENDER, 7)), Some(7));
        assert_eq!(color_of(b"{\"color\":360}"), None);
        assert_eq!(color_of(b"{\"colour\":3}"), None);
        assert_eq!(color_of(b"{\"color\":}"), None);
        assert_eq!(color_of(b""), None);
    }

    #[test]
    fn the_last_message_is_a_move_to_nowhere() {
        let expected = format!(r#"{{"x":-10000,"y":-10000,"left":true,{TAIL}"#);
        assert_eq!(left(SENDER, 217), expected.as_bytes());
    }

    /// Text that is JSON, or nearly.
    fn nearly_json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            "null|true|false|nul|-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?",
            "\"([a-z \\\\/éß🎈]|\\\\[\"\\\\/bfnrtu]|\\\\u[0-9a-fA-F]{4})*\"",
        ];
        let value = leaf.prop_recursive(6, 64, 6, |inner| {
            let key = "\"(sender|color|x|send\\\\u0065r|c\\\\u006Flor)\"";
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6)
                    .prop_map(|items| format!("[{}]", items.join(" ,"))),
                prop::collection::vec((key, inner), 0..6).prop_map(|fields| {
                    let fields: Vec<_> = fields
                        .into_iter()
                        .map(|(key, value)| format!("{key} :{value}"))
                        .collect();
                    format!("{{{}}}", fields.join(","))
                }),
            ]
        });
        (
            value,
            prop::option::of((
                any::<prop::sample::Index>(),
                prop::sample::select(b"{}[]\",:\\ 0e".to_vec()),
            )),
        )
            .prop_map(|(mut text, wound)| {
                if let Some((index, byte)) = wound {
                    let mut at = index.index(text.len() + 1);
                    while !text.is_char_boundary(at) {
                        at -= 1;
                    }
                    text.insert(at, char::from(byte));
                }
                text
            })
    }

    /// What serde_json says the outermost object's fields are, as written.
    #[derive(Debug, PartialEq)]
    struct Fields(Vec<(String, String)>);

    impl<'de> serde::Deserialize<'de> for Fields {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = Fields;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("an object")
                }
                fn visit_map<A: serde::de::MapAccess<'de>>(
                    self,
                    mut map: A,
                ) -> Result<Fields, A::Error> {
                    let mut fields = Vec::new();
                    while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                        fields.push((key, value.get().to_owned()));
                    }
                    Ok(Fields(fields))
                }
            }
            deserializer.deserialize_map(Visitor)
        }
    }

    /// serde_json refuses lone surrogates, which pass here: writes other characters in their place.
    fn without_surrogates(text: &str) -> String {
        text.replace("\\ud", "\\u0").replace("\\uD", "\\u0")
    }

    proptest! {
        #[test]
        fn no_bytes_panic(input in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = stamp(&input, SENDER, 0);
            let _ = color_of(&input);
        }

        #[test]
        fn what_is_json_is_what_serde_json_says(text in nearly_json()) {
            let text = without_surrogates(&text);
            let object = serde_json::from_str::<Fields>(&text);
            match stamped(&text) {
                Ok(output) => {
                    let mut expected = object.unwrap().0;
                    expected.retain(|(name, _)| name != "sender" && name != "color");
                    expected.push(("sender".into(), format!("\"{SENDER}\"")));
                    expected.push(("color".into(), "217".into()));
                    prop_assert_eq!(serde_json::from_str::<Fields>(&output).unwrap().0, expected);
                }
                Err(Refusal::NotObject) => {
                    prop_assert!(object.is_err());
                    prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok());
                }
                Err(_) => prop_assert!(serde_json::from_str::<&RawValue>(&text).is_err()),
            }
        }

        #[test]
        fn stamping_again_changes_only_the_stamp(fields in prop::collection::btree_map("[a-z]{1,8}", -1000i64..1000, 0..8)) {
            let text = serde_json::to_string(&fields).unwrap();
            let once = stamp(text.as_bytes(), Uuid::nil(), 1).unwrap();
            let twice = stamp(&once, SENDER, 217).unwrap();
            prop_assert_eq!(&twice, &stamp(text.as_bytes(), SENDER, 217).unwrap());
            let read: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&twice).unwrap();
            prop_assert_eq!(&read["color"], 217);
        }
    }
}
