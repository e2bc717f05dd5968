//! What env files say, what is wrong with them, and that any value can be written in one.

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> BTreeMap<String, String> {
    parse(text).unwrap_or_else(|errors| panic!("{text:?}: {errors:?}"))
}

/// The one variable of a text.
fn value(text: &str) -> String {
    let mut read = read(text);
    let (name, value) = read.pop_first().expect("a variable");
    assert_eq!((name.as_str(), read.len()), ("A", 0), "{text:?}");
    value
}

/// The errors, one a line.
fn errors(text: &str) -> String {
    let errors = parse(text).expect_err(text);
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    errors.join("\n")
}

#[test]
fn a_line_gives_a_name_its_value() {
    for (text, meant) in [
        ("A=b", "b"),
        ("A=", ""),
        ("A=b=c", "b=c"),
        ("  A = b c  ", "b c"),
        ("export A=b", "b"),
        ("\texport\tA=b", "b"),
        ("A=b # a comment", "b"),
        ("A=b# none", "b# none"),
        ("A=#b", "#b"),
        ("A= # a comment", ""),
        ("A=\t#", ""),
        ("A=it's \"so\"", "it's \"so\""),
        ("A=C:\\new", "C:\\new"),
        ("A=$HOME ${X} `x`", "$HOME ${X} `x`"),
        ("A='b'", "b"),
        ("A=''", ""),
        ("A='  b \\n $X \"q\" # c '", "  b \\n $X \"q\" # c "),
        ("A='b' # a comment", "b"),
        ("A=\"\"", ""),
        ("A=\"b\"  ", "b"),
        ("A=\"it's # $X\" # \"", "it's # $X"),
        ("A=\"\\n\\r\\t\\\"\\\\\\$X\"", "\n\r\t\"\\$X"),
        ("A=\"b\\\\\" # \"", "b\\"),
        ("A='b\nc\n'", "b\nc\n"),
        ("A=\"b\n# c\n\n\\td\"", "b\n# c\n\n\td"),
        ("A=\u{a0}é\u{3000}", "\u{a0}é\u{3000}"),
    ] {
        assert_eq!(value(text), meant, "{text:?}");
    }
}

#[test]
fn lines_that_say_nothing_may_stand_anywhere() {
    let text = "\u{feff}# The shop's.\n\n   # More.\r\n \t\nA=1\r\nB=\"x\r\ny\"\r\n#\nexport=2\nc.d-e_1='3'\n";
    let expected = [("A", "1"), ("B", "x\ny"), ("c.d-e_1", "3"), ("export", "2")];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(read(text), BTreeMap::from(expected));
    for empty in ["", "\n", "\u{feff}", "#", "\r\n\r\n"] {
        assert_eq!(read(empty), BTreeMap::new(), "{empty:?}");
    }
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line() {
    let text = "\
A=1
b c
# A comment.
1A=hunter2
=hunter2
A=2
export B
C='x' y
D=\"a\\d\"
E=\"one
two\"#three
F='
G=1
A=3
";
    assert_eq!(
        errors(text),
        "\
line 2: has no '=' (write KEY=VALUE, or # before a comment)
line 4: what stands before the '=' is no name: that has letters, digits, '_', '.' and '-', and begins with a letter or '_'
line 5: what stands before the '=' is no name: that has letters, digits, '_', '.' and '-', and begins with a letter or '_'
line 6: A is set a second time, after line 1
line 7: has no '=' (write KEY=VALUE, or # before a comment)
line 8: after the closing ' there is more (a comment needs a blank before its #)
line 9: in double quotes a \\ stands before one of n r t \" \\ $ (write \\\\ for itself, or use single quotes)
line 11: after the closing \" of the value that begins in line 10 there is more (a comment needs a blank before its #)
line 12: the ' that begins the value is never closed
line 14: A is set a second time, after line 1"
    );
}

#[test]
fn what_a_quote_that_is_never_closed_has_swallowed_is_looked_at_too() {
    assert_eq!(
        errors("A=\"x\nB\nC=1"),
        "line 1: the \" that begins the value is never closed\n\
         line 2: has no '=' (write KEY=VALUE, or # before a comment)"
    );
    assert_eq!(
        errors("A=1\nB='"),
        "line 2: the ' that begins the value is never closed"
    );
}

#[test]
fn a_nul_and_a_line_that_ends_in_a_backslash_are_refused() {
    assert_eq!(
        errors("A=x\0y"),
        "line 1: the value has a NUL, which no variable can have"
    );
    assert!(errors("A=\"x\\\ny\"").starts_with("line 1: in double quotes a \\ stands before"));
}

#[test]
fn no_error_tells_what_stands_in_the_file() {
    for text in [
        "hunter2",
        "A=1\nA=hunter2",
        "hunter 2=hunter2",
        "A='hunter2",
        "A=\"\\hunter2\"",
        "A='x'hunter2",
        "A=hunter2\0",
    ] {
        let told = errors(text);
        assert!(!told.contains("hunter"), "{told}");
    }
}

#[test]
fn only_so_many_errors_are_told() {
    let text = "wrong\n".repeat(10_000);
    assert_eq!(parse(&text).unwrap_err().len(), ERRORS_MAX);
}

#[test]
fn a_file_is_read_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.env");
    let shown = path.display();
    let mut text = "A=1\n#".to_owned();
    text.push_str(&"x".repeat(FILE_BYTES_MAX as usize - text.len()));
    std::fs::write(&path, &text).unwrap();
    assert_eq!(load(&path).unwrap()["A"], "1");

    text.push('x');
    std::fs::write(&path, &text).unwrap();
    let refused = load(&path).unwrap_err();
    assert_eq!(refused, [format!("{shown} has more than 1048576 bytes")]);

    std::fs::write(&path, "A=1\nB\nC='").unwrap();
    assert_eq!(
        load(&path).unwrap_err(),
        [
            format!("{shown}:2: has no '=' (write KEY=VALUE, or # before a comment)"),
            format!("{shown}:3: the ' that begins the value is never closed"),
        ]
    );
}

#[test]
fn what_is_not_utf_8_is_told_with_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.env");
    let shown = path.display();
    std::fs::write(&path, b"A=1\r\n# caf\xe9\nB='\nhunter2\xff\xfe'\nC\n\xc3").unwrap();
    let expected = [2, 4, 6].map(|line| format!("{shown}:{line}: is not UTF-8"));
    assert_eq!(load(&path).unwrap_err(), expected);

    // Each of its lines is wrong, and only so many are told.
    std::fs::write(&path, b"\xff\n".repeat(10_000)).unwrap();
    assert_eq!(load(&path).unwrap_err().len(), ERRORS_MAX);
}

/// How a value is written.
#[derive(Debug, Clone, Copy)]
enum Style {
    Bare,
    Single,
    /// With line breaks as they are, or as escapes.
    Double {
        escaped: bool,
    },
}

/// Writes a value in a style, or in double quotes where that cannot write it.
fn quoted(value: &str, style: Style) -> String {
    let only_blanks_within = value.trim_matches(is_blank) == value;
    let mut pairs = value.chars().zip(value.chars().skip(1));
    let has_comment = pairs.any(|(a, b)| is_blank(a) && b == '#');
    let is_bare = only_blanks_within
        && !has_comment
        && !value.contains('\n')
        && !value.starts_with(['\'', '"']);
    match style {
        Style::Bare if is_bare => value.to_owned(),
        Style::Single if !value.contains('\'') && !value.contains("\r\n") => format!("'{value}'"),
        style => {
            let escaped = matches!(style, Style::Double { escaped: true });
            let mut text = String::new();
            for c in value.chars() {
                match c {
                    '\\' | '"' | '$' => text.extend(['\\', c]),
                    '\r' => text.push_str("\\r"),
                    '\n' if escaped => text.push_str("\\n"),
                    '\t' if escaped => text.push_str("\\t"),
                    c => text.push(c),
                }
            }
            format!("\"{text}\"")
        }
    }
}

fn styles() -> impl Strategy<Value = Style> {
    prop_oneof![
        Just(Style::Bare),
        Just(Style::Single),
        any::<bool>().prop_map(|escaped| Style::Double { escaped }),
    ]
}

fn values() -> impl Strategy<Value = String> {
    let odd = "[ab '\"\\\\$#=\r\n\t\u{a0}\u{feff}é]{0,12}";
    prop_oneof![odd, "(?s)[^\0]{0,40}"]
}

/// Text of the pieces that mean something.
fn pieces() -> impl Strategy<Value = String> {
    let pieces = [
        "A", "B", "=", "'", "\"", "\\", "\\n", "#", " ", "\n", "\r\n", "\r", "export ", "$", "\0",
        "é", "\u{feff}", "1",
    ];
    let piece = proptest::sample::select(pieces.to_vec());
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn every_value_can_be_written_and_is_read_again(
        entries in proptest::collection::btree_map(
            "[A-Za-z_][A-Za-z0-9_.-]{0,10}",
            (values(), styles(), any::<bool>(), "( #[^\r\n\0]{0,10})?"),
            0..8,
        ),
        line_end in proptest::sample::select(vec!["\n", "\r\n"]),
    ) {
        let mut text = String::new();
        for (name, (value, style, exported, comment)) in &entries {
            let export = if *exported { "export " } else { "" };
            let value = quoted(value, *style);
            text.push_str(&format!("{export}{name}={value}{comment}{line_end}"));
        }
        let meant = entries.into_iter().map(|(name, (value, ..))| (name, value));
        prop_assert_eq!(parse(&text), Ok(meant.collect()), "{}", text);
    }

    #[test]
    fn no_text_makes_the_reader_panic_and_every_error_has_a_line(
        text in prop_oneof![pieces(), "(?s).{0,100}"],
    ) {
        if let Err(errors) = parse(&text) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.line >= 1 && error.line <= text.lines().count().max(1), "{}", error);
            }
        }
    }

    #[test]
    fn where_lines_end_in_crlf_says_nothing(text in pieces()) {
        let unix = text.replace('\r', "");
        let windows = unix.replace('\n', "\r\n");
        prop_assert_eq!(parse(&unix), parse(&windows));
    }
}
