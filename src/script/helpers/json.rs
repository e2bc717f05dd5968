//! JSON as values of scripts, within a script's limits.

use std::cell::Cell;
use std::fmt;
use std::io;

use rhai::{Array, Dynamic, INT, Map};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, Serializer};

use crate::config::ScriptLimits;
use crate::script::answers::shown;

/// Values within values; as deep as what can be read (`serde_json`'s own limit).
const DEPTH_MAX: usize = 128;

/// Why a text is no value.
pub enum Unread {
    NoJson,
    /// What there is too much of, in the engine's words.
    TooLarge(&'static str),
}

/// Why a value is no text.
pub enum Unwritten {
    TooLarge,
    NoValue(String),
}

/// Reads a text. What has no room is noticed before it takes any.
pub fn parse(text: &str, limits: &ScriptLimits) -> Result<Dynamic, Unread> {
    let room = Room {
        bytes: Cell::new(limits.string_bytes_max),
        items: Cell::new(limits.array_items_max),
        entries: Cell::new(limits.map_entries_max),
        lacking: Cell::new(None),
    };
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = (&room)
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value));
    match (read, room.lacking.get()) {
        (_, Some(what)) => Err(Unread::TooLarge(what)),
        (Ok(value), None) => Ok(value),
        (Err(_), None) => Err(Unread::NoJson),
    }
}

/// How much more a value may have in it, all together, as the engine counts it.
struct Room {
    bytes: Cell<usize>,
    items: Cell<usize>,
    entries: Cell<usize>,
    lacking: Cell<Option<&'static str>>,
}

impl Room {
    fn take<E: serde::de::Error>(
        &self,
        of: &Cell<usize>,
        n: usize,
        what: &'static str,
    ) -> Result<(), E> {
        match of.get().checked_sub(n) {
            Some(left) => {
                of.set(left);
                Ok(())
            }
            None => {
                self.lacking.set(Some(what));
                Err(E::custom(what))
            }
        }
    }

    fn text<E: serde::de::Error>(&self, text: &str) -> Result<Dynamic, E> {
        self.take(&self.bytes, text.len(), "Length of string")?;
        Ok(text.into())
    }
}

impl<'de> DeserializeSeed<'de> for &Room {
    type Value = Dynamic;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Dynamic, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Room {
    type Value = Dynamic;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Dynamic, E> {
        Ok(Dynamic::UNIT)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Dynamic, E> {
        Ok(truth.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Dynamic, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Dynamic, E> {
        Ok(INT::try_from(number).map_or_else(|_| (number as f64).into(), Dynamic::from))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Dynamic, E> {
        Ok(number.into())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Dynamic, E> {
        self.text(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Dynamic, A::Error> {
        let mut items = Array::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            self.take(&self.items, 1, "Size of array")?;
            items.push(item);
        }
        Ok(items.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Dynamic, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            self.take(&self.entries, 1, "Size of object map")?;
            let value = members.next_value_seed(self)?;
            map.insert(key.as_str().into(), value);
        }
        Ok(map.into())
    }
}

/// Writes a value, stopping when it is longer than allowed.
pub fn write(value: &Dynamic, bytes_max: usize) -> Result<String, Unwritten> {
    let mut text = Bounded {
        bytes: Vec::new(),
        bytes_max,
    };
    match serde_json::to_writer(&mut text, &Json { value, depth: 0 }) {
        Ok(()) => String::from_utf8(text.bytes).map_err(|e| Unwritten::NoValue(e.to_string())),
        Err(error) if error.is_io() => Err(Unwritten::TooLarge),
        Err(error) => Err(Unwritten::NoValue(error.to_string())),
    }
}

struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Json<'a> {
    value: &'a Dynamic,
    depth: usize,
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { value, depth } = *self;
        if depth > DEPTH_MAX {
            return Err(S::Error::custom(format!(
                "a value is nested more than {DEPTH_MAX} deep"
            )));
        }
        let below = |value| Json {
            value,
            depth: depth + 1,
        };
        if value.is_shared() {
            let value = value.clone().flatten();
            return below(&value).serialize(serializer);
        }
        if value.is_unit() {
            return serializer.serialize_unit();
        }
        if let Ok(truth) = value.as_bool() {
            return serializer.serialize_bool(truth);
        }
        if let Ok(number) = value.as_int() {
            return serializer.serialize_i64(number);
        }
        if let Ok(number) = value.as_float() {
            return serializer.serialize_f64(number);
        }
        if let Ok(character) = value.as_char() {
            return serializer.serialize_char(character);
        }
        if let Ok(text) = value.as_immutable_string_ref() {
            return serializer.serialize_str(&text);
        }
        if let Ok(items) = value.as_array_ref() {
            return serializer.collect_seq(items.iter().map(below));
        }
        match value.as_map_ref() {
            Ok(map) => {
                serializer.collect_map(map.iter().map(|(key, value)| (key.as_str(), below(value))))
            }
            Err(_) => Err(S::Error::custom(format!(
                "{} is no value that can be written down",
                shown(value)
            ))),
        }
    }
}
