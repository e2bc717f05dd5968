//! What a store tells of an application's releases: which one is current, and the switches up to it.
//!
//! Both documents are JSON that people read and older tools wrote, so reading is lenient: fields
//! that are not known are passed over, and kept when a file is written again.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::names::ReleaseHash;

/// How many entries a history keeps; the oldest leave first.
pub const HISTORY_ENTRIES_MAX: usize = 50;

/// The release that is current, as `current.json` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrentDocument {
    #[serde(alias = "Hash")]
    pub hash: ReleaseHash,
    /// Empty where an older file does not tell it; so are `at` and `by`.
    #[serde(default, alias = "Revision")]
    pub revision: String,
    /// When it became current: RFC 3339, UTC, to the millisecond.
    #[serde(default, alias = "At")]
    pub at: String,
    /// Who switched to it: a person, a token's name, or what the gateway says of itself.
    #[serde(default, alias = "By")]
    pub by: String,
    #[serde(default, deserialize_with = "known_or_switch")]
    pub kind: ChangeKind,
}

/// One change of the current release, as `history.json` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    #[serde(default, alias = "Revision")]
    pub revision: String,
    #[serde(alias = "Hash")]
    pub hash: ReleaseHash,
    /// RFC 3339, UTC, to the millisecond.
    #[serde(default, alias = "At")]
    pub at: String,
    #[serde(default, alias = "By")]
    pub by: String,
    #[serde(default, deserialize_with = "known_or_switch")]
    pub kind: ChangeKind,
}

impl From<&HistoryEntry> for CurrentDocument {
    /// Of the release that a change made current.
    fn from(entry: &HistoryEntry) -> Self {
        Self {
            hash: entry.hash.clone(),
            revision: entry.revision.clone(),
            at: entry.at.clone(),
            by: entry.by.clone(),
            kind: entry.kind,
        }
    }
}

/// What made a release the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum ChangeKind {
    /// Someone asked for this release.
    #[default]
    #[serde(rename = "switch")]
    Switch,
    /// Someone asked for the one before.
    #[serde(rename = "rollback")]
    Rollback,
    /// The gateway went back by itself: the new release failed too often.
    #[serde(rename = "automatic rollback")]
    AutomaticRollback,
}

impl ChangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Switch => "switch",
            Self::Rollback => "rollback",
            Self::AutomaticRollback => "automatic rollback",
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind that a newer version wrote must not make the whole history unreadable.
fn known_or_switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ChangeKind, D::Error> {
    let kind = Value::deserialize(deserializer)?;
    Ok(ChangeKind::deserialize(kind).unwrap_or_default())
}

impl HistoryEntry {
    /// Whether both tell of the same change.
    fn is_same_change(&self, other: &Self) -> bool {
        (&self.hash, &self.at, &self.by) == (&other.hash, &other.at, &other.by)
    }

    /// Whether the document tells of the same change.
    fn is_change_to(&self, current: &CurrentDocument) -> bool {
        (&self.hash, &self.at, &self.by) == (&current.hash, &current.at, &current.by)
    }
}

impl CurrentDocument {
    /// Reads `current.json`: an object, or, as older tools wrote it, only the hash, with the quotes
    /// of a JSON string or without. The error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if let Ok(hash) = ReleaseHash::new(text.trim()) {
            return Ok(Self::only(hash));
        }
        match parse::<Value>(bytes)? {
            Value::String(hash) => ReleaseHash::new(hash.trim())
                .map(Self::only)
                .map_err(|error| error.to_string()),
            Value::Object(_) => parse(bytes),
            _ => Err("it is neither an object nor a hash".to_owned()),
        }
    }

    fn only(hash: ReleaseHash) -> Self {
        Self {
            hash,
            revision: String::new(),
            at: String::new(),
            by: String::new(),
            kind: ChangeKind::Switch,
        }
    }

    /// The change that made it current, as the history has it.
    pub fn change(&self) -> HistoryEntry {
        HistoryEntry {
            revision: self.revision.clone(),
            hash: self.hash.clone(),
            at: self.at.clone(),
            by: self.by.clone(),
            kind: self.kind,
        }
    }

    /// When it became current; `None` where that is not told, which is older than anything that is.
    pub fn since(&self) -> Option<Timestamp> {
        self.at.parse().ok()
    }

    /// Whether a history, oldest first, does not tell of the change that made it current: whoever
    /// recorded it ended between the two writes, or does not write histories.
    pub fn is_missing_in(&self, history: &[HistoryEntry]) -> bool {
        let is_last = history.last().is_some_and(|last| last.hash == self.hash);
        !is_last && !history.iter().any(|entry| entry.is_change_to(self))
    }

    /// The bytes of `current.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        lines(self)
    }
}

/// The changes of the current release, the newest last.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    entries: Vec<HistoryEntry>,
    /// The same entries as they stand in the file, with what only others know of them.
    written: Vec<Value>,
}

impl History {
    /// Reads `history.json`: a list of entries. The error says what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        Ok(Self {
            entries: parse(bytes)?,
            written: parse(bytes)?,
        })
    }

    /// The bytes of `history.json`.
    pub fn to_bytes(&self) -> Vec<u8> {
        lines(&self.written)
    }

    pub fn entries(&self) -> &[HistoryEntry] {
        &self.entries
    }

    pub fn into_entries(self) -> Vec<HistoryEntry> {
        self.entries
    }

    /// What a history that is lost begins with.
    pub fn of(known: &[HistoryEntry]) -> Self {
        let mut history = Self::default();
        for entry in known {
            history.add(entry.clone(), None);
        }
        history
    }

    /// How many entries tell of the same change: equal hash, time and person.
    pub fn count_of(&self, entry: &HistoryEntry) -> usize {
        let same = self.entries.iter();
        same.filter(|other| other.is_same_change(entry)).count()
    }

    /// Whether the newest entry tells of the same change.
    pub fn ends_with(&self, entry: &HistoryEntry) -> bool {
        self.entries
            .last()
            .is_some_and(|last| last.is_same_change(entry))
    }

    /// Adds an entry as the newest; the oldest leave past [`HISTORY_ENTRIES_MAX`].
    ///
    /// `current` is what the store names as current at this time. When that is a later change
    /// than this entry's and already stands at the end, the entry goes before it: the newest entry
    /// is then the current release, also when two gateways switch at once.
    pub fn add(&mut self, entry: HistoryEntry, current: Option<&CurrentDocument>) {
        let is_overtaken = current.is_some_and(|current| {
            let last = self.entries.last();
            !entry.is_change_to(current) && last.is_some_and(|last| last.is_change_to(current))
        });
        let at = self.entries.len() - usize::from(is_overtaken);
        let written = serde_json::to_value(&entry).unwrap_or_default();
        self.written.insert(at, written);
        self.entries.insert(at, entry);
        let too_many = self.entries.len().saturating_sub(HISTORY_ENTRIES_MAX);
        self.entries.drain(..too_many);
        self.written.drain(..too_many);
    }
}

/// Reads JSON; an error names the field.
fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        match error.path().to_string().as_str() {
            "." => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        }
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// JSON for programs and for people. These documents have nothing that JSON cannot say.
fn lines<T: Serialize>(document: &T) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(document).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> ReleaseHash {
        ReleaseHash::new(&format!("{n:064x}")).unwrap()
    }

    fn entry(n: u32) -> HistoryEntry {
        HistoryEntry {
            revision: format!("r{n}"),
            hash: hash(n),
            at: format!("2026-01-01T00:00:{n:02}Z"),
            by: "ada".to_owned(),
            kind: ChangeKind::Switch,
        }
    }

    fn current(n: u32) -> CurrentDocument {
        let HistoryEntry {
            revision,
            hash,
            at,
            by,
            kind,
        } = entry(n);
        CurrentDocument {
            hash,
            revision,
            at,
            by,
            kind,
        }
    }

    fn revisions(history: &History) -> Vec<&str> {
        let written = serde_json::from_slice::<Value>(&history.to_bytes()).unwrap();
        let read = History::parse(&history.to_bytes()).unwrap();
        assert_eq!(read.entries, history.entries, "{written}");
        let revisions = history.entries.iter();
        revisions.map(|entry| entry.revision.as_str()).collect()
    }

    #[test]
    fn documents_are_written_as_they_are_told_in_the_documentation() {
        let text = String::from_utf8(current(7).to_bytes()).unwrap();
        let expected = format!(
            "{{\n  \"hash\": \"{}\",\n  \"revision\": \"r7\",\n  \
             \"at\": \"2026-01-01T00:00:07Z\",\n  \"by\": \"ada\",\n  \"kind\": \"switch\"\n}}\n",
            hash(7)
        );
        assert_eq!(text, expected);
        assert_eq!(CurrentDocument::parse(text.as_bytes()), Ok(current(7)));

        let mut history = History::default();
        history.add(
            HistoryEntry {
                kind: ChangeKind::AutomaticRollback,
                ..entry(1)
            },
            None,
        );
        let text = String::from_utf8(history.to_bytes()).unwrap();
        assert!(text.contains(r#""kind": "automatic rollback""#), "{text}");
        assert_eq!(History::parse(text.as_bytes()), Ok(history));
    }

    #[test]
    fn current_is_read_as_older_tools_wrote_it() {
        let md5 = "0123456789abcdef0123456789abcdef";
        let only = CurrentDocument::only(ReleaseHash::new(md5).unwrap());
        for text in [
            format!("\"{md5}\""),
            format!("  {md5}\n"),
            format!("{{\"Hash\":\"{}\"}}", md5.to_uppercase()),
            format!("{{\"hash\":\"{md5}\",\"somewhere\":{{\"else\":1}}}}"),
        ] {
            assert_eq!(
                CurrentDocument::parse(text.as_bytes()).as_ref(),
                Ok(&only),
                "{text}"
            );
        }
        let capitals = format!(r#"{{"Revision":"r1","Hash":"{md5}","At":"then","By":"bo"}}"#);
        let read = CurrentDocument::parse(capitals.as_bytes()).unwrap();
        assert_eq!(
            (read.revision.as_str(), read.at.as_str(), read.by.as_str()),
            ("r1", "then", "bo")
        );
    }

    #[test]
    fn what_is_wrong_with_a_document_is_said() {
        for (text, expected) in [
            ("", "EOF while parsing"),
            ("{", "EOF while parsing"),
            ("[]", "neither an object nor a hash"),
            ("\"latest\"", "\"latest\" is no hash"),
            ("{\"revision\":\"r1\"}", "missing field `hash`"),
            ("{\"hash\":\"abc\"}", "hash: \"abc\" is no hash"),
            ("{\"hash\":5}", "hash: invalid type"),
            ("\u{0}", "expected value"),
        ] {
            let error = CurrentDocument::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
        assert!(CurrentDocument::parse(b"\xff\xfe").is_err());
        let half = format!("[{{\"hash\":\"{}\"}},{{\"hash\":\"x\"}}]", hash(1));
        for (text, expected) in [
            ("{}", "invalid type: map"),
            ("[] []", "trailing characters"),
            (half.as_str(), "[1].hash: \"x\" is no hash"),
        ] {
            let error = History::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn what_only_others_know_of_an_entry_stays_in_the_file() {
        let older = format!(
            r#"[{{"Hash":"{}","Revision":"r1","ticket":"OPS-1"}},{{"hash":"{}","kind":"canary"}}]"#,
            hash(1),
            hash(2)
        );
        let mut history = History::parse(older.as_bytes()).unwrap();
        assert_eq!(history.entries()[0].kind, ChangeKind::Switch);
        assert_eq!(history.entries()[1].kind, ChangeKind::Switch);
        history.add(entry(3), None);
        let written: Value = serde_json::from_slice(&history.to_bytes()).unwrap();
        assert_eq!(written[0]["ticket"], "OPS-1");
        assert_eq!(written[1]["kind"], "canary");
        assert_eq!(written[2]["revision"], "r3");
        assert_eq!(revisions(&history), ["r1", "", "r3"]);
    }

    #[test]
    fn a_current_release_that_the_history_does_not_tell_of_is_known() {
        let current = current(2);
        assert_eq!(current.change(), entry(2));
        assert!(current.is_missing_in(&[]));
        assert!(current.is_missing_in(&[entry(1)]));
        assert!(!current.is_missing_in(&[entry(1), entry(2)]));
        // Another gateway has overtaken it, whose own `current.json` is about to be written.
        assert!(!current.is_missing_in(&[entry(2), entry(3)]));
        // A file of an older tool tells only the hash.
        let only = CurrentDocument::only(hash(2));
        assert!(!only.is_missing_in(&[entry(1), entry(2)]));
        assert!(only.is_missing_in(&[entry(2), entry(1)]));
    }

    #[test]
    fn only_the_newest_fifty_are_kept() {
        let mut history = History::default();
        for n in 0..53 {
            history.add(entry(n), None);
        }
        let expected: Vec<String> = (3..53).map(|n| format!("r{n}")).collect();
        assert_eq!(revisions(&history), expected);
    }

    #[test]
    fn an_entry_goes_before_the_change_that_overtook_it() {
        // This one is current, or nothing is known: it is the newest.
        for current in [None, Some(current(2)), Some(current(9))] {
            let mut history = History::default();
            history.add(entry(1), None);
            history.add(entry(2), current.as_ref());
            assert_eq!(revisions(&history), ["r1", "r2"], "{current:?}");
        }
        // Another gateway switched to r3 in between, and was faster with its entry.
        let mut history = History::default();
        history.add(entry(1), None);
        history.add(entry(3), None);
        history.add(entry(2), Some(&current(3)));
        assert_eq!(revisions(&history), ["r1", "r2", "r3"]);
    }

    #[test]
    fn the_same_change_is_known_again_by_hash_time_and_person() {
        let mut history = History::default();
        history.add(entry(1), None);
        history.add(entry(2), None);
        assert!(history.ends_with(&entry(2)) && !history.ends_with(&entry(1)));
        let renamed = HistoryEntry {
            revision: "other".to_owned(),
            ..entry(1)
        };
        assert_eq!(history.count_of(&renamed), 1);
        for other in [
            HistoryEntry {
                by: "bo".to_owned(),
                ..entry(1)
            },
            HistoryEntry {
                at: String::new(),
                ..entry(1)
            },
            HistoryEntry {
                hash: hash(4),
                ..entry(1)
            },
        ] {
            assert_eq!(history.count_of(&other), 0, "{other:?}");
        }
    }
}
