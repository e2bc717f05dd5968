//! Every function that the gateway gives to scripts says what it is, in a file that editors can read.

use std::collections::{BTreeMap, BTreeSet};

use rhai::Engine;

use super::*;
use crate::script::check::{self, Natives};
use crate::script::engine::language;
use crate::script::error::Source;
use crate::script::tests::Dir;
use crate::script::vars::Vars;

/// Names that the language server for Rhai keeps for itself, besides those of the language.
const KEPT: [&str; 28] = [
    "var",
    "static",
    "goto",
    "exit",
    "match",
    "case",
    "public",
    "protected",
    "new",
    "use",
    "with",
    "module",
    "package",
    "super",
    "spawn",
    "thread",
    "go",
    "sync",
    "async",
    "await",
    "yield",
    "default",
    "void",
    "null",
    "nil",
    "in",
    "do",
    "until",
];

fn gateway() -> Engine {
    bare_engine(&Given::default(), &Arc::new(Mutex::new(None)))
}

fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.iter().any(|(forbidden, _)| *forbidden == name)
}

/// The same, and that there is something to look at.
fn own_functions() -> Vec<Function> {
    let own = super::own_functions();
    assert!(own.len() > 60, "{} functions", own.len());
    own
}

#[test]
fn every_function_of_the_gateway_says_what_it_does() {
    for Function {
        name, doc: comment, ..
    } in own_functions()
    {
        let words = comment.trim_start_matches('/').trim();
        assert!(words.len() > 15, "{name} says only {words:?}");
        for line in comment.lines() {
            assert!(line.starts_with("///"), "{name}: {line}");
            assert!(line.len() <= 130, "{name}: {line}");
        }
    }
}

#[test]
fn every_parameter_has_a_name_that_a_variable_can_have() {
    for function in own_functions() {
        let Function {
            name,
            parameters,
            arity,
            ..
        } = function;
        assert_eq!(parameters.len(), arity, "{name}");
        for parameter in parameters {
            let Some((word, kind)) = parameter.split_once(": ") else {
                panic!("{name}: {parameter} has no type");
            };
            let is_usable = language().compile(format!("let {word} = 1;")).is_ok();
            assert!(
                is_usable && !word.starts_with('_') && !KEPT.contains(&word),
                "{name}: {word}"
            );
            assert!(
                !kind.contains("::") && !kind.contains('&'),
                "{name}: {kind}"
            );
        }
    }
}

/// The text of each ```` ```rhai ```` fence.
fn examples(comment: &str) -> Vec<String> {
    let mut examples = Vec::new();
    let mut lines = comment
        .lines()
        .map(|line| line.trim_start_matches("///").trim());
    while let Some(line) = lines.next() {
        if line == "```rhai" {
            let example: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            examples.push(example.join("\n"));
        }
    }
    examples
}

#[test]
fn every_example_passes_the_checks_that_scripts_pass() {
    let engine = gateway();
    let natives = Natives::of(&engine);
    let mut seen = 0;
    for function in own_functions() {
        for example in examples(&function.doc) {
            let source = Source {
                file: function.name.as_str().into(),
                text: format!("fn example(req, c, vars) {{\n{example}\n}}"),
            };
            let ast = match engine.compile(&source.text) {
                Ok(ast) => ast,
                Err(error) => panic!("{}: {error}\n{example}", function.name),
            };
            let errors = check::calls(
                &source,
                &ast,
                &natives,
                &BTreeMap::new(),
                &Vars::new(&BTreeMap::new()),
                None,
            );
            assert!(errors.is_empty(), "{}", errors[0]);
            seen += 1;
        }
    }
    assert!(seen > 15, "{seen} examples");
}

#[test]
fn the_definitions_have_everything_that_scripts_can_call_and_nothing_else() {
    let text = text();
    let defined: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("fn ")?.split('(').next())
        .collect();
    let names =
        gateway().collect_fn_metadata(None, |info| Some(info.metadata.name.to_string()), true);
    for name in names {
        let name = name.replace("get$", "get ").replace("set$", "set ");
        let is_operator = name.contains('$') || !name.starts_with(|c: char| c.is_alphabetic());
        if !is_operator && !["print", "debug"].contains(&&*name) {
            assert_eq!(defined.contains(&*name), !is_forbidden(&name), "{name}");
        }
    }
    for (forbidden, _) in FORBIDDEN {
        assert!(!defined.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn the_definitions_are_written_in_rhais_notation() {
    let text = text();
    assert!(text.starts_with("module static;\n\n// "), "{}", &text[..80]);
    for line in [
        "fn proxy(name: String) -> ProxyDecision;",
        "fn get path(req: Request) -> String;",
        "fn get hour(req: Request) -> int;",
        "fn header(req: Request, name: String) -> String;",
        "fn header(req: Request, name: String, otherwise: ?) -> ?;",
        "fn get(map: Map, key: String, otherwise: ?) -> ?;",
        "fn route(pattern: String, decide: Fn) -> ();",
        "fn label(c: Container, name: String) -> String;",
        "fn get ports(c: Container) -> Array;",
        "fn duration(time: int | float | String) -> float;",
        "fn tcp() -> ReadyRule;",
        "fn crop(string: String, start: int) -> ();",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}");
    }
    for line in text.lines().filter(|line| !line.starts_with("//")) {
        let is_declaration = line.is_empty()
            || line == "module static;"
            || line.starts_with("fn ") && line.contains(": ") | line.contains("()")
            || line.starts_with("op ");
        assert!(is_declaration && !line.contains("_: "), "{line}");
        assert!(line.is_empty() || line.ends_with(';'), "{line}");
        assert!(!line.contains("->  ") && !line.contains("-> ;"), "{line}");
        for odd in ["range=", "Result", "::", "&mut", "rhai", "i64", "f64"] {
            assert!(!line.contains(odd), "{line}");
        }
    }
}

#[test]
fn a_function_keeps_its_words_and_a_forbidden_one_leaves_none() {
    let told = "module static;\n\n/// Waits.\nfn sleep(seconds: int) -> ();\n\n\
                /// Both.\n/// Lines.\nfn a(map: map, x: range=) -> RhaiResult;\n\n\
                fn a(_: map) -> ;\n\n/// Small.\nfn b(x: i16) -> bool;\n\nop ==(f32, f32) -> bool;\n\
                op ==(string, char) -> bool;";
    assert_eq!(
        readable(told),
        "module static;\n\n/// Both.\n/// Lines.\nfn a(map: Map, x: RangeInclusive<int>) -> ?;\n\n\
         op ==(String, char) -> bool;\n\n"
            .to_owned()
            + TO_FLOAT
    );
}

#[test]
fn writing_replaces_the_file_and_leaves_nothing_beside_it() {
    let dir = Dir::new(&[("a.rhai", "route(\"/\", |req| proxy(\"a\"));")]);
    let hash = dir
        .load()
        .unwrap_or_else(|e| panic!("{}", e[0]))
        .hash()
        .to_owned();
    let file = write(dir.path()).unwrap();
    assert_eq!(file, dir.path().join(".definitions/wakegate.d.rhai"));
    fs::write(&file, "something else").unwrap();
    assert_eq!(write(dir.path()).unwrap(), file);
    assert_eq!(fs::read_to_string(&file).unwrap(), text());
    assert_eq!(
        fs::read_dir(dir.path().join(".definitions"))
            .unwrap()
            .count(),
        1
    );
    // It is no script, which it would not be a good one of.
    let version = dir.load().unwrap_or_else(|e| panic!("{}", e[0]));
    assert_eq!(version.hash(), hash);
}

#[test]
fn a_directory_that_is_not_there_is_not_made() {
    let dir = Dir::new(&[]);
    let missing = dir.path().join("no/such");
    assert_eq!(write(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(!dir.path().join("no").exists());
}
