//! What a script calls and reads, as far as its text tells: names with the number of arguments.

use std::collections::BTreeSet;

/// What stands in one or more scripts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Names with the number of arguments; what stands before the dot of a method is one of them.
    functions: BTreeSet<(String, usize)>,
    properties: BTreeSet<String>,
}

impl Calls {
    pub fn has_function(&self, name: &str, arguments: usize) -> bool {
        self.functions.contains(&(name.to_owned(), arguments))
    }

    pub fn has_property(&self, name: &str) -> bool {
        self.properties.contains(name)
    }

    /// Adds those of a script.
    pub fn read(&mut self, script: &str) {
        let text = without_words(script);
        let mut rest = 0;
        while let Some(start) = text[rest..].find(is_of_name) {
            let start = rest + start;
            let end = text[start..]
                .find(|c| !is_of_name(c))
                .map_or(text.len(), |length| start + length);
            let name = text[start..end].to_owned();
            let is_method = text[..start].ends_with('.') && !text[..start].ends_with("..");
            match arguments(&text[end..]) {
                Some(count) => {
                    let receiver = usize::from(is_method);
                    drop(self.functions.insert((name, count + receiver)));
                }
                None if is_method => drop(self.properties.insert(name)),
                None => {}
            }
            rest = end;
        }
    }
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The script with nothing in its comments and texts, but for what is between `${` and `}`.
fn without_words(script: &str) -> String {
    let mut text = String::new();
    for line in script.lines() {
        let mut quote = None;
        let mut characters = line.chars().peekable();
        while let Some(c) = characters.next() {
            match quote {
                None if c == '/' && characters.peek() == Some(&'/') => break,
                None => {
                    if matches!(c, '"' | '`' | '\'') {
                        quote = Some(c);
                    }
                    text.push(c);
                }
                Some('`') if c == '$' && characters.peek() == Some(&'{') => {
                    // The braces stay, so that a call in them is read and its commas are not ours.
                    text.extend(characters.by_ref().take_while(|c| *c != '}'));
                    text.push('}');
                }
                Some('"') if c == '\\' => drop(characters.next()),
                Some(closing) if c == closing => {
                    quote = None;
                    text.push(c);
                }
                Some(_) => {}
            }
        }
        text.push('\n');
    }
    text
}

/// The number of arguments, when the text begins with a list of them.
fn arguments(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('(')?;
    let (mut depth, mut commas, mut is_empty, mut in_parameters) = (1_usize, 0, true, false);
    for c in inside.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(if is_empty { 0 } else { commas + 1 });
                }
            }
            // `|a, b|` of a closure.
            '|' if depth == 1 => in_parameters = !in_parameters,
            ',' if depth == 1 && !in_parameters => commas += 1,
            _ => {}
        }
        is_empty &= c.is_whitespace();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_properties_are_told_from_words() {
        let mut calls = Calls::default();
        calls.read(
            "// comment(1)\non_error(|req, err| {\n  respond(err.status, \"text(1, 2)\")\n    \
             .header(`x ${req.query(\"a\")}, y`, [1, 2])\n    .retry_after( )\n});\nfor i in 0..n() { } // more(1)",
        );
        let functions: Vec<(&str, usize)> = calls
            .functions
            .iter()
            .map(|(n, c)| (n.as_str(), *c))
            .collect();
        assert_eq!(
            functions,
            [
                ("header", 3),
                ("n", 0),
                ("on_error", 1),
                ("query", 2),
                ("respond", 2),
                ("retry_after", 1),
            ]
        );
        assert_eq!(calls.properties, BTreeSet::from(["status".to_owned()]));
    }
}
