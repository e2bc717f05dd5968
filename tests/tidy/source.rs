//! Reads a source file as tokens: which paths of the crate it uses, outside of its tests.
//!
//! Tokens and not text, so that comments, strings and line breaks hide nothing and invent nothing;
//! and not a syntax tree, so that what is written inside of a macro's call counts as well.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, Ident, TokenStream, TokenTree};

/// What of a file matters to the order of the house.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Paths from the crate's root, such as `["config", "Listen"]`, each with its line.
    pub uses: Vec<(usize, Vec<String>)>,
    /// `StatusCode::NAME`.
    pub statuses: Vec<(usize, String)>,
    /// Modules in files of their own that are only there in tests.
    pub test_modules: BTreeSet<String>,
}

/// Reads a file. `module`: where it stands in the crate, `["config", "typed"]`; the root is `[]`.
pub fn read(text: &str, module: &[String]) -> Source {
    let tokens: TokenStream = text
        .parse()
        .unwrap_or_else(|error| panic!("{}: {error}", module.join("::")));
    let mut source = Source::default();
    walk(&trees(tokens), module, &mut source);
    source
}

fn trees(tokens: TokenStream) -> Vec<TokenTree> {
    tokens.into_iter().collect()
}

fn walk(tokens: &[TokenTree], module: &[String], source: &mut Source) {
    let children = child_modules(tokens);
    let mut at = 0;
    while at < tokens.len() {
        if is_test_attribute(&tokens[at..]) {
            at = skip_item(tokens, at, source);
            continue;
        }
        match &tokens[at] {
            TokenTree::Ident(word) if word == "mod" => {
                if let [_, TokenTree::Ident(name), TokenTree::Group(body), ..] = &tokens[at..] {
                    let inner = [module, &[name.to_string()]].concat();
                    walk(&trees(body.stream()), &inner, source);
                    at += 3;
                    continue;
                }
            }
            TokenTree::Ident(word) if starts_path(tokens, at) => {
                let line = word.span().start().line;
                if let Some(start) = root_of(word, module, &children) {
                    follow(&tokens[at + 1..], start, line, source);
                } else if word == "StatusCode"
                    && let Some(TokenTree::Ident(name)) = after_colons(&tokens[at + 1..]).first()
                {
                    source.statuses.push((line, name.to_string()));
                }
            }
            TokenTree::Group(group) => walk(&trees(group.stream()), module, source),
            _ => {}
        }
        at += 1;
    }
}

/// `mod name` declarations at this level, which paths may begin with.
fn child_modules(tokens: &[TokenTree]) -> BTreeSet<String> {
    let pairs = tokens.windows(2).filter_map(|pair| match pair {
        [TokenTree::Ident(word), TokenTree::Ident(name)] if word == "mod" => Some(name.to_string()),
        _ => None,
    });
    pairs.collect()
}

/// Whether an identifier begins a path: it is followed by `::` and does not follow one.
fn starts_path(tokens: &[TokenTree], at: usize) -> bool {
    let follows = at > 0 && is_colon(&tokens[at - 1]) && at > 1 && is_colon(&tokens[at - 2]);
    !follows && after_colons(&tokens[at + 1..]).len() < tokens.len() - at - 1
}

fn is_colon(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == ':')
}

/// What follows a leading `::`; everything when there is none.
fn after_colons(tokens: &[TokenTree]) -> &[TokenTree] {
    match tokens {
        [first, second, rest @ ..] if is_colon(first) && is_colon(second) => rest,
        _ => tokens,
    }
}

/// The module that a path's first word stands for, when it is one of this crate's.
fn root_of(word: &Ident, module: &[String], children: &BTreeSet<String>) -> Option<Vec<String>> {
    match word.to_string().as_str() {
        "crate" | "wakegate" => Some(Vec::new()),
        "self" => Some(module.to_vec()),
        "super" => Some(module[..module.len().saturating_sub(1)].to_vec()),
        name if children.contains(name) => Some([module, &[name.to_owned()]].concat()),
        _ => None,
    }
}

/// Follows a path, and all of its branches where it has braces.
fn follow(mut rest: &[TokenTree], mut path: Vec<String>, line: usize, source: &mut Source) {
    loop {
        let next = after_colons(rest);
        if next.len() == rest.len() {
            break;
        }
        match next {
            [TokenTree::Ident(word), after @ ..] => {
                match word.to_string().as_str() {
                    "super" => drop(path.pop()),
                    "self" => {}
                    name => path.push(name.to_owned()),
                }
                rest = after;
            }
            [TokenTree::Group(group), ..] if group.delimiter() == Delimiter::Brace => {
                let branches = trees(group.stream());
                let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
                for branch in branches.split(is_comma) {
                    follow_branch(branch, &path, source);
                }
                return;
            }
            _ => break,
        }
    }
    source.uses.push((line, path));
}

fn follow_branch(branch: &[TokenTree], path: &[String], source: &mut Source) {
    let Some(first) = branch.first() else {
        return;
    };
    let line = first.span().start().line;
    match first {
        TokenTree::Ident(word) if word != "self" => {
            let path = [path, &[word.to_string()]].concat();
            follow(&branch[1..], path, line, source);
        }
        _ => source.uses.push((line, path.to_vec())),
    }
}

/// `#[cfg(test)]`, also with more conditions; not `#[cfg(not(test))]`.
fn is_test_attribute(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Punct(hash), TokenTree::Group(body), ..] = tokens else {
        return false;
    };
    let text = body.stream().to_string().replace(' ', "");
    let names_test = text
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|word| word == "test");
    let is_condition = text.starts_with("cfg(") && names_test && !text.contains("not(test)");
    hash.as_char() == '#' && (is_condition || text == "test")
}

/// The place after the item that an attribute belongs to.
fn skip_item(tokens: &[TokenTree], mut at: usize, source: &mut Source) -> usize {
    while at < tokens.len() {
        if let [TokenTree::Ident(word), TokenTree::Ident(name), ..] = &tokens[at..]
            && word == "mod"
        {
            source.test_modules.insert(name.to_string());
        }
        let ends = match &tokens[at] {
            TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
            TokenTree::Punct(punct) => punct.as_char() == ';',
            _ => false,
        };
        at += 1;
        if ends {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(text: &str) -> Vec<String> {
        let module = ["config".to_owned(), "typed".to_owned()];
        let uses = read(text, &module).uses;
        uses.iter().map(|(_, path)| path.join("::")).collect()
    }

    #[test]
    fn every_way_to_write_a_path_is_found() {
        for (text, expected) in [
            ("use crate::proxy::Pool;", vec!["proxy::Pool"]),
            (
                "use crate::{a::{self, B, c::*}, d};",
                vec!["a", "a::B", "a::c", "d"],
            ),
            ("use super::super::admin::X as Y;", vec!["admin::X"]),
            ("use self::inner::X;", vec!["config::typed::inner::X"]),
            (
                "mod inner; pub use inner::X;",
                vec!["config::typed::inner::X"],
            ),
            ("mod inner { use super::X; }", vec!["config::typed::X"]),
            (
                "fn f(x: &crate::a::B<crate::c::D>) {}",
                vec!["a::B", "c::D"],
            ),
            ("fn f() { println!(\"{}\", crate::a::b()); }", vec!["a::b"]),
            ("fn f() { crate::a::b::<u8>(); }", vec!["a::b"]),
            ("fn main() { wakegate::cli::run() }", vec!["cli::run"]),
            ("pub(crate) struct S { a: std::a::crate_b, t: T }", vec![]),
            (
                "// use crate::a;\n/// crate::b\nconst S: &str = \"crate::c::d\";",
                vec![],
            ),
            ("#[cfg(test)] mod tests { use crate::a::B; }", vec![]),
            (
                "#[cfg(test)] use crate::a::B; use crate::c::D;",
                vec!["c::D"],
            ),
            ("#[cfg(all(test, unix))] fn f() { crate::a::b() }", vec![]),
            ("#[cfg(not(test))] fn f() { crate::a::b() }", vec!["a::b"]),
        ] {
            assert_eq!(used(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_statuses_and_test_modules_are_told() {
        let source = read(
            "#[cfg(test)]\nmod tests;\nmod a;\nfn f() {\n    g(StatusCode::NOT_FOUND);\n    crate::b::c();\n}",
            &[],
        );
        assert_eq!(source.statuses, [(5, "NOT_FOUND".to_owned())]);
        assert_eq!(source.uses, [(6, vec!["b".to_owned(), "c".to_owned()])]);
        assert_eq!(source.test_modules, BTreeSet::from(["tests".to_owned()]));
    }
}
