//! Whatever is typed, nothing panics.

use proptest::prelude::*;

use super::*;

fn toml_like() -> impl Strategy<Value = String> {
    let names: Vec<String> = keys()
        .flat_map(|key| [key.name.to_owned(), format!("[{}]", key.table)])
        .chain(
            [
                "[process.images.\"a\"]",
                "command",
                "[[hold]]",
                "hold.time",
                "[vars]",
                "[apps.a]",
                "[apps]",
                "store",
                "env_file",
                "A",
                "1-é",
            ]
            .map(String::from),
        )
        .collect();
    let values = [
        "1",
        "-1",
        "1.5",
        "true",
        "\"5m\"",
        "[1, \"a\"]",
        "{ a = 1 }",
        "{ env = \"X\" }",
        "{ env = \"X\", default = [[[[[[]]]]]] }",
        "{ env = y, default = \"\" }",
        "5m",
        "",
        "[",
        "\"\"",
        "1979-05-27",
        "99999999999999999999999999999999999999999",
        "inf",
        "\"\u{0}é\"",
        "'''a",
        "\"unix:\"",
        "\"1e999 s\"",
        "\"9e9GiB\"",
        "\"..5µs\"",
        "\"a[{b=c}]=info\"",
    ];
    let line = (
        proptest::sample::select(names),
        proptest::sample::select(values.to_vec()),
        any::<bool>(),
    )
        .prop_map(|(name, value, header)| {
            if header || name.starts_with('[') {
                format!("{name}\n")
            } else {
                format!("{name} = {value}\n")
            }
        });
    proptest::collection::vec(line, 0..20).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "(?s).{0,200}", word in "(?s).{0,40}") {
        let env = |_: &str| Some(word.clone());
        drop(parse(&text, "gateway.toml", &no_env));
        drop(parse("", "gateway.toml", &env));
    }

    #[test]
    fn no_toml_makes_the_reader_panic_and_every_error_has_a_line(text in toml_like()) {
        if let Err(errors) = parse(&text, "gateway.toml", &no_env) {
            prop_assert!(!errors.is_empty());
            for error in errors.iter() {
                let Place::Line { line, .. } = error.place else {
                    panic!("{error}");
                };
                prop_assert!(line >= 1 && line <= text.lines().count() + 1, "{error}");
            }
        }
    }

    #[test]
    fn no_value_of_any_key_makes_the_reader_panic(n in 0..keys().count(), value in "(?s).{0,40}") {
        let key = keys().nth(n).unwrap();
        let quoted = toml::Value::String(value).to_string();
        drop(parse(&format!("[{}]\n{} = {quoted}", key.table, key.name), "gateway.toml", &no_env));
    }
}
