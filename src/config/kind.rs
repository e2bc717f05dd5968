//! The kinds of values that keys take: how each is read, and how it is written.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Place;
use super::typed::Value;

/// What is wrong with a value; `at` when it is a part of the value that is wrong.
#[derive(Debug)]
pub struct Complaint {
    pub at: Option<Place>,
    pub message: String,
}

impl From<String> for Complaint {
    fn from(message: String) -> Self {
        Self { at: None, message }
    }
}

/// A kind of value. `base`: the folder that relative paths start from.
pub trait Kind {
    type Out;

    fn read(&self, value: &Value, base: &Path) -> Result<Self::Out, Vec<Complaint>>;

    /// As it is written in TOML; `None` where there is nothing to write.
    fn show(&self, value: &Self::Out) -> Option<String>;
}

/// A kind that is one piece of text.
pub trait TextKind {
    type Out;

    /// `"a duration"`, and an example of one.
    const WHAT: (&'static str, &'static str);

    /// The error is the whole message.
    fn parse(&self, text: &str, base: &Path) -> Result<Self::Out, String>;

    fn write(&self, value: &Self::Out) -> String;
}

/// `X is not a duration (try "5m")`
pub fn is_not(typed: impl Display, (what, example): (&str, &str)) -> String {
    format!("{typed} is not {what} (try {example})")
}

impl<K: TextKind> Kind for K {
    type Out = K::Out;

    fn read(&self, value: &Value, base: &Path) -> Result<K::Out, Vec<Complaint>> {
        let parsed = match value {
            Value::Text(text) | Value::Word(text) => self.parse(text.trim(), base),
            other => Err(is_not(other.show(), K::WHAT)),
        };
        parsed.map_err(|message| vec![message.into()])
    }

    fn show(&self, value: &K::Out) -> Option<String> {
        Some(quoted(&self.write(value)))
    }
}

/// Text as a TOML basic string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// `30s`, `5m`, `1m30s`; from and to inclusive.
pub struct Time(pub Duration, pub Duration);

impl Kind for Time {
    type Out = Duration;

    fn read(&self, value: &Value, _: &Path) -> Result<Duration, Vec<Complaint>> {
        let what = ("a duration", "\"5m\"");
        let parsed = match value {
            Value::Integer(number) => Err(format!(
                "{number} has no unit (write \"{}s\")",
                number.max(&1)
            )),
            Value::Text(text) | Value::Word(text) => match humantime::parse_duration(text) {
                Ok(time) if (self.0..=self.1).contains(&time) => Ok(time),
                Ok(_) => Err(format!(
                    "{text:?} is out of range ({} to {})",
                    humantime::format_duration(self.0),
                    humantime::format_duration(self.1)
                )),
                Err(_) if text.trim().parse::<f64>().is_ok_and(f64::is_finite) => {
                    Err(format!("{text:?} has no unit (write \"{}s\")", text.trim()))
                }
                Err(_) => Err(is_not(value.show(), what)),
            },
            other => Err(is_not(other.show(), what)),
        };
        parsed.map_err(|message| vec![message.into()])
    }

    fn show(&self, time: &Duration) -> Option<String> {
        Some(quoted(&humantime::format_duration(*time).to_string()))
    }
}

/// `64KiB`, `1MB`, or a number of bytes; from and to inclusive.
pub struct Bytes<N>(pub N, pub N);

impl<N: Copy + TryFrom<u64> + TryInto<u64>> Kind for Bytes<N> {
    type Out = N;

    fn read(&self, value: &Value, _: &Path) -> Result<N, Vec<Complaint>> {
        let (min, max) = (wide(self.0), wide(self.1));
        let bytes = match value {
            Value::Integer(number) => Some(u64::try_from(*number).unwrap_or(0)),
            Value::Text(text) | Value::Word(text) => {
                let text = text.trim().replace('_', "");
                text.parse::<bytesize::ByteSize>().ok().map(|b| b.as_u64())
            }
            _ => None,
        };
        let parsed = match bytes {
            None => Err(is_not(value.show(), ("a size", "\"64KiB\""))),
            Some(bytes) if (min..=max).contains(&bytes) => {
                N::try_from(bytes).map_err(|_| format!("{} has no room here", value.show()))
            }
            Some(_) => Err(format!(
                "{} is out of range ({} to {})",
                value.show(),
                size(min),
                size(max)
            )),
        };
        parsed.map_err(|message| vec![message.into()])
    }

    fn show(&self, bytes: &N) -> Option<String> {
        let text = size(wide(*bytes));
        let bare = text.bytes().all(|byte| byte.is_ascii_digit());
        Some(if bare { text } else { quoted(&text) })
    }
}

fn wide<N: TryInto<u64>>(number: N) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

/// In the largest binary unit that divides it: exact, unlike a rounded one.
fn size(bytes: u64) -> String {
    let units = [
        (50, "PiB"),
        (40, "TiB"),
        (30, "GiB"),
        (20, "MiB"),
        (10, "KiB"),
    ];
    let unit = units
        .iter()
        .find(|(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    match unit {
        Some((shift, name)) => format!("{}{name}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// A whole number; from and to inclusive.
pub struct Count<N>(pub N, pub N);

impl<N: Copy + Display + TryFrom<i128> + PartialOrd> Kind for Count<N> {
    type Out = N;

    fn read(&self, value: &Value, _: &Path) -> Result<N, Vec<Complaint>> {
        let number = match value {
            Value::Integer(number) => Some(*number),
            Value::Word(word) => word.trim().replace('_', "").parse().ok(),
            _ => None,
        };
        let parsed = match (number, value) {
            (Some(number), _) => N::try_from(number)
                .ok()
                .filter(|number| (self.0..=self.1).contains(number))
                .ok_or_else(|| format!("{number} is out of range ({} to {})", self.0, self.1)),
            (None, Value::Text(text)) if text.trim().parse::<i128>().is_ok() => Err(format!(
                "{text:?} is text (write {} without quotes)",
                text.trim()
            )),
            (None, other) => Err(is_not(other.show(), ("a whole number", "100"))),
        };
        parsed.map_err(|message| vec![message.into()])
    }

    fn show(&self, number: &N) -> Option<String> {
        Some(number.to_string())
    }
}

/// A number with a fraction; from and to inclusive.
pub struct Amount(pub f64, pub f64);

impl Kind for Amount {
    type Out = f64;

    fn read(&self, value: &Value, _: &Path) -> Result<f64, Vec<Complaint>> {
        let number = match value {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Word(word) => word.trim().parse().ok(),
            _ => None,
        };
        let parsed = match number {
            None => Err(is_not(value.show(), ("a number", "1.5"))),
            Some(number) if (self.0..=self.1).contains(&number) => Ok(number),
            Some(_) => Err(format!(
                "{} is out of range ({} to {})",
                value.show(),
                self.0,
                self.1
            )),
        };
        parsed.map_err(|message| vec![message.into()])
    }

    fn show(&self, number: &f64) -> Option<String> {
        Some(number.to_string())
    }
}

/// `true` or `false`.
pub struct Flag;

impl Kind for Flag {
    type Out = bool;

    fn read(&self, value: &Value, _: &Path) -> Result<bool, Vec<Complaint>> {
        let message = match value {
            Value::Bool(truth) => return Ok(*truth),
            Value::Word(word) if word.trim() == "true" => return Ok(true),
            Value::Word(word) if word.trim() == "false" => return Ok(false),
            Value::Text(text) if matches!(text.trim(), "true" | "false") => {
                format!("{text:?} is text (write {} without quotes)", text.trim())
            }
            other => is_not(other.show(), ("true or false", "true")),
        };
        Err(vec![message.into()])
    }

    fn show(&self, truth: &bool) -> Option<String> {
        Some(truth.to_string())
    }
}

/// One of a few words.
pub struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind for OneOf<T> {
    type Out = T;

    fn read(&self, value: &Value, _: &Path) -> Result<T, Vec<Complaint>> {
        let words = self.0.iter().map(|(word, _)| *word);
        let hint = match value {
            Value::Text(text) | Value::Word(text) => {
                let text = text.trim();
                if let Some((_, found)) = self.0.iter().find(|(word, _)| *word == text) {
                    return Ok(*found);
                }
                super::suggest::hint(text, words.clone())
            }
            _ => String::new(),
        };
        let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
        let message = format!("{} is none of {}{hint}", value.show(), words.join(", "));
        Err(vec![message.into()])
    }

    fn show(&self, value: &T) -> Option<String> {
        let (word, _) = self.0.iter().find(|(_, known)| known == value)?;
        Some(quoted(word))
    }
}

/// A key that need not be set.
pub struct Optional<K>(pub K);

impl<K: Kind> Kind for Optional<K> {
    type Out = Option<K::Out>;

    fn read(&self, value: &Value, base: &Path) -> Result<Self::Out, Vec<Complaint>> {
        self.0.read(value, base).map(Some)
    }

    fn show(&self, value: &Self::Out) -> Option<String> {
        value.as_ref().and_then(|value| self.0.show(value))
    }
}

/// A list; in an environment variable its items are separated by commas.
pub struct ListOf<K>(pub K);

impl<K: Kind> Kind for ListOf<K> {
    type Out = Vec<K::Out>;

    fn read(&self, value: &Value, base: &Path) -> Result<Self::Out, Vec<Complaint>> {
        let mut read = Vec::new();
        let mut complaints = Vec::new();
        let mut take = |at: Option<&Place>, item: &Value| match self.0.read(item, base) {
            Ok(item) => read.push(item),
            Err(wrong) => complaints.extend(wrong.into_iter().map(|complaint| Complaint {
                at: complaint.at.or_else(|| at.cloned()),
                message: complaint.message,
            })),
        };
        match value {
            Value::List(items) => items.iter().for_each(|(at, item)| take(Some(at), item)),
            Value::Word(words) => words
                .split(',')
                .map(str::trim)
                .filter(|word| !word.is_empty())
                .for_each(|word| take(None, &Value::Word(word.to_owned()))),
            other => {
                let message = format!("{0} is not a list (write [{0}])", other.show());
                return Err(vec![message.into()]);
            }
        }
        if complaints.is_empty() {
            Ok(read)
        } else {
            Err(complaints)
        }
    }

    fn show(&self, items: &Self::Out) -> Option<String> {
        let items: Option<Vec<String>> = items.iter().map(|item| self.0.show(item)).collect();
        Some(format!("[{}]", items?.join(", ")))
    }
}

/// Names with text values, such as environment variables.
pub struct TextTable;

impl Kind for TextTable {
    type Out = BTreeMap<String, String>;

    fn read(&self, value: &Value, _: &Path) -> Result<Self::Out, Vec<Complaint>> {
        let Value::Table(members) = value else {
            let message = is_not(value.show(), ("a table", "{ KEY = \"value\" }"));
            return Err(vec![message.into()]);
        };
        let mut read = BTreeMap::new();
        let mut complaints = Vec::new();
        for member in members {
            let message = match &member.value {
                _ if member.name.is_empty() || member.name.contains(['=', '\0']) => {
                    format!("{:?} cannot be a variable's name", member.name)
                }
                Value::Text(text) if !text.contains('\0') => {
                    read.insert(member.name.clone(), text.clone());
                    continue;
                }
                other => format!(
                    "{}: {}",
                    member.name,
                    is_not(other.show(), ("text", "\"…\" in quotes"))
                ),
            };
            complaints.push(Complaint {
                at: Some(member.place.clone()),
                message,
            });
        }
        if complaints.is_empty() {
            Ok(read)
        } else {
            Err(complaints)
        }
    }

    fn show(&self, table: &Self::Out) -> Option<String> {
        let members: Vec<String> = table
            .iter()
            .map(|(name, text)| format!("{} = {}", quoted(name), quoted(text)))
            .collect();
        Some(format!("{{ {} }}", members.join(", ")))
    }
}

/// A path; a relative one starts from the folder of gateway.toml.
pub struct FilePath;

impl TextKind for FilePath {
    type Out = PathBuf;
    const WHAT: (&'static str, &'static str) = ("a path", "\"scripts\"");

    fn parse(&self, text: &str, base: &Path) -> Result<PathBuf, String> {
        if text.is_empty() || text.contains('\0') {
            return Err(is_not(format_args!("{text:?}"), Self::WHAT));
        }
        Ok(base.join(text))
    }

    fn write(&self, path: &PathBuf) -> String {
        path.display().to_string()
    }
}
