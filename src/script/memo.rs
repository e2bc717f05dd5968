//! Decisions that were made before, found again by exactly what their handler read.
//!
//! A handler is a pure function of what it reads of a request, so the field that it reads next is
//! determined by the values that it read before. The memo of a route is therefore a tree: a node
//! is the field that is read next, its branches are the values that were seen, its leaves are
//! decisions. Walking it with a request reads what the handler would read, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use ahash::RandomState;

use crate::decision::{Decision, RequestFacts};
use crate::script::field::Field;
use crate::script::routes::Captures;

/// What all keys and nodes of one memo may take up, roughly.
const BYTES_MAX: usize = 8 << 20;

/// What a node takes up besides its key, roughly.
const NODE_BYTES: usize = 256;

/// A remembered answer; `None` is a handler's "no decision".
pub type Answer = Option<Arc<Decision>>;

enum Node {
    Answer(Answer),
    Read(Box<Read>),
}

struct Read {
    field: Field,
    /// What follows when the request lacks the field.
    missing: Option<Node>,
    /// Hashed at random: the keys are the clients' to choose. A `None` is a branch in the making.
    values: HashMap<Box<[u8]>, Option<Node>, RandomState>,
}

/// The decisions of one version, one tree a route. Belongs to one thread.
pub struct Memo {
    trees: Vec<Option<Node>>,
    /// Routes whose handler read different things after the same values: they are not remembered.
    unsteady: Vec<bool>,
    keys: RandomState,
    entries: usize,
    bytes: usize,
    entries_max: usize,
}

impl Memo {
    /// `entries_max` answers at the most; 0 remembers nothing.
    pub fn new(routes: usize, entries_max: usize) -> Self {
        Self {
            trees: (0..routes).map(|_| None).collect(),
            unsteady: vec![false; routes],
            keys: RandomState::new(),
            entries: 0,
            bytes: 0,
            entries_max,
        }
    }

    /// Whether it remembers nothing at all.
    pub fn is_off(&self) -> bool {
        self.entries_max == 0
    }

    pub fn entries(&self) -> usize {
        self.entries
    }

    /// The remembered answer of a route.
    pub fn find(
        &self,
        route: usize,
        facts: &RequestFacts<'_>,
        captures: &Captures<'_>,
    ) -> Option<&Answer> {
        let mut node = self.trees.get(route)?.as_ref()?;
        loop {
            match node {
                Node::Answer(answer) => return Some(answer),
                Node::Read(read) => {
                    node = match read.field.of(facts, Some(captures)).bytes() {
                        Some(bytes) => read.values.get(bytes)?.as_ref()?,
                        None => read.missing.as_ref()?,
                    };
                }
            }
        }
    }

    /// Remembers what a route's handler answered after these reads.
    pub fn insert(
        &mut self,
        route: usize,
        facts: &RequestFacts<'_>,
        captures: &Captures<'_>,
        reads: Vec<Field>,
        answer: Answer,
    ) {
        if self.is_off() || self.unsteady[route] {
            return;
        }
        // A full memo starts over: what is asked for often is back soon.
        if self.entries >= self.entries_max || self.bytes >= BYTES_MAX {
            self.clear();
        }
        let mut bytes = NODE_BYTES;
        let mut place = &mut self.trees[route];
        for field in reads {
            let raw = field.of(facts, Some(captures));
            let node = place.get_or_insert_with(|| {
                bytes += NODE_BYTES;
                Node::Read(Box::new(Read {
                    field: field.clone(),
                    missing: None,
                    values: HashMap::with_hasher(self.keys.clone()),
                }))
            });
            let read = match node {
                Node::Read(read) if read.field == field => read,
                _ => return self.distrust(route),
            };
            place = match raw.bytes() {
                None => &mut read.missing,
                Some(key) => {
                    bytes += key.len();
                    read.values.entry(key.into()).or_default()
                }
            };
        }
        if matches!(place, Some(Node::Read(_))) {
            return self.distrust(route);
        }
        if place.replace(Node::Answer(answer)).is_none() {
            self.entries += 1;
        }
        self.bytes += bytes;
    }

    fn distrust(&mut self, route: usize) {
        tracing::warn!(
            route,
            "a handler read different things after the same values; its decisions are not remembered"
        );
        self.trees[route] = None;
        self.unsteady[route] = true;
    }

    fn clear(&mut self) {
        self.trees.fill_with(|| None);
        self.entries = 0;
        self.bytes = 0;
    }
}
