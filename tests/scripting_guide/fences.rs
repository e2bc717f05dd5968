//! The scripts in a document: its fences of the language `rhai`.

/// A scripts directory as a document shows it.
#[derive(Debug, PartialEq, Eq)]
pub struct Fence {
    /// The line of its opening fence, from 1.
    pub line: usize,
    /// By name: the script itself, and libraries that were shown before it.
    pub files: Vec<(String, String)>,
    /// A part of the message that it is refused with, at loading or by its tests.
    pub refused: Option<String>,
    /// `NAME = "value", …`
    pub vars: Option<String>,
    /// The applications that there are; none where nothing is said of them.
    pub apps: Option<Vec<String>>,
}

impl Fence {
    /// The gateway.toml that it is loaded with.
    pub fn configuration(&self) -> String {
        match &self.vars {
            Some(vars) => format!("vars = {{ {vars} }}\n"),
            None => String::new(),
        }
    }
}

/// Reads all of them. A fence whose first line is `// file: lib/…` is a library of the fence after it;
/// one that starts with `// refused: …` is to be refused; `// vars: …` gives constants, and
/// `// apps: …` applications.
pub fn read(document: &str, text: &str) -> Vec<Fence> {
    let mut fences = Vec::new();
    let mut libraries = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        if line != "```rhai" {
            // Another fence's inside is not looked at.
            if line.starts_with("```") {
                let closed = lines.any(|(_, line)| line == "```");
                assert!(closed, "{document}:{}: a fence without an end", index + 1);
            }
            continue;
        }
        let mut script = Vec::new();
        loop {
            match lines.next() {
                Some((_, "```")) => break,
                Some((_, line)) => script.push(line),
                None => panic!("{document}:{}: a fence without an end", index + 1),
            }
        }
        let told = |what: &str| {
            let first = script.iter().take_while(|line| line.starts_with("// "));
            let mut told = first.filter_map(|line| line.strip_prefix(what));
            told.next().map(|told| told.trim().to_owned())
        };
        let whole = script.join("\n") + "\n";
        if let Some(name) = told("// file:") {
            libraries.push((name, whole));
            continue;
        }
        let mut files = std::mem::take(&mut libraries);
        let (refused, vars) = (told("// refused:"), told("// vars:"));
        let apps = told("// apps:").map(|names| {
            let names = names.split(',');
            names.map(|name| name.trim().to_owned()).collect()
        });
        files.push(("guide.rhai".to_owned(), whole));
        fences.push(Fence {
            line: index + 1,
            files,
            refused,
            vars,
            apps,
        });
    }
    assert!(
        libraries.is_empty(),
        "{document}: a library that no script uses"
    );
    fences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_told_from_other_fences_and_from_their_libraries() {
        let text = "```sh\n```rhai\n```\nwords\n```rhai\n// file: lib/a.rhai\nfn f() { }\n```\n\
                    ```rhai\n// vars: A = 1\n// apps: a, b\n// refused: no way\nf();\n```\n";
        assert_eq!(
            read("a.md", text),
            [Fence {
                line: 9,
                files: vec![
                    (
                        "lib/a.rhai".to_owned(),
                        "// file: lib/a.rhai\nfn f() { }\n".to_owned()
                    ),
                    (
                        "guide.rhai".to_owned(),
                        "// vars: A = 1\n// apps: a, b\n// refused: no way\nf();\n".to_owned()
                    ),
                ],
                refused: Some("no way".to_owned()),
                vars: Some("A = 1".to_owned()),
                apps: Some(vec!["a".to_owned(), "b".to_owned()]),
            }]
        );
    }
}
