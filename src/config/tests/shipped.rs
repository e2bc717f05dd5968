//! The shipped gateway.toml and the table of keys tell the same.

use std::collections::BTreeMap;

use super::*;

/// The commented-out lines of a table of gateway.toml, and the active ones: `name = value`.
fn shipped_lines(text: &str) -> BTreeMap<(String, String), (String, String)> {
    let mut table = String::new();
    let mut above = String::new();
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_end_matches(']').to_owned();
        } else if let Some(name) = line.strip_prefix("# [") {
            table = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = bare.split_once(" = ")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            lines.insert(
                (table.clone(), name.to_owned()),
                (bare.to_owned(), above.clone()),
            );
            continue;
        }
        line.clone_into(&mut above);
    }
    lines
}

#[test]
fn the_shipped_file_is_the_defaults_and_shows_every_key_with_its_default() {
    let text = include_str!("../../../gateway.toml");
    assert_eq!(read(text), Config::default());
    let mut lines = shipped_lines(text);
    for key in keys() {
        let name = (key.table.to_owned(), key.name.to_owned());
        let Some((line, above)) = lines.remove(&name) else {
            panic!("[{}] {} is not in gateway.toml", key.table, key.name);
        };
        let read = read_with(&format!("[{}]\n{line}", key.table), &[]);
        if key.default.is_some() {
            assert_eq!(read, Ok(Config::default()), "[{}] {line}", key.table);
            continue;
        }
        // No fixed default: an example, and words.
        let tells = above.contains("default: ") || key.name.ends_with("s_max");
        assert!(tells, "{above}\n{line}");
        match key.name {
            // Nobody may run with the token of an example.
            "token" | "token_file" => assert!(read.is_err(), "{line}"),
            _ => assert!(read.is_ok(), "{line}"),
        }
    }
    lines.retain(|(table, _), _| !table.starts_with("process.images") && table != "apps.shop");
    assert_eq!(lines, BTreeMap::new(), "unknown keys");
}

#[test]
fn the_shipped_application_shows_every_key_with_its_default() {
    let mut lines = shipped_lines(include_str!("../../../gateway.toml"));
    let name = AppName::new("shop").unwrap();
    let default = App::new(&name);
    let read_line = |line: &str| {
        let config = read_with(&format!("[apps.shop]\n{line}"), &[])?;
        Ok::<_, ConfigErrors>(config.apps[&name].clone())
    };
    for key in keys::APP_KEYS {
        let Some((line, _)) = lines.remove(&("apps.shop".to_owned(), key.name.to_owned())) else {
            panic!("[apps.shop] {} is not in gateway.toml", key.name);
        };
        if let Some(shown) = (key.show)(&default) {
            assert_eq!(line, format!("{} = {shown}", key.name));
            assert_eq!(read_line(&line), Ok(default.clone()), "{line}");
            continue;
        }
        // No default: an example, and words about it here and there.
        let above = lines_above(&line);
        assert!(above.contains("default:"), "{above}\n{line}");
        assert!(key.about.contains("default: "), "{}", key.name);
        match key.name {
            // There is no such file beside the gateway's own.
            "env_file" => assert!(read_line(&line).is_err(), "{line}"),
            "store_endpoint" | "store_region" => {
                assert!(read_line(&line).is_err(), "{line}");
                let on_s3 = format!("store = \"s3://bucket/shop\"\n{line}");
                assert_ne!(read_line(&on_s3).unwrap(), default, "{line}");
            }
            _ => assert_ne!(read_line(&line).unwrap(), default, "{line}"),
        }
    }
    lines.retain(|(table, _), _| table == "apps.shop");
    assert_eq!(lines, BTreeMap::new(), "unknown keys");
    assert_eq!(read_line(""), Ok(default));
}

/// The two lines of words above a line of gateway.toml.
fn lines_above(line: &str) -> String {
    let text = include_str!("../../../gateway.toml");
    let (above, _) = text.split_once(&format!("\n# {line}\n")).unwrap();
    let above: Vec<&str> = above.lines().rev().take(2).collect();
    above.concat()
}

#[test]
fn the_shipped_example_of_an_image_is_right() {
    let text = include_str!("../../../gateway.toml");
    let example: String = text
        .lines()
        .skip_while(|line| !line.starts_with("# [process.images"))
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let image = &read(&example).process.images["hello:latest"];
    assert_eq!((image.command.len(), image.port), (2, Some(8080)));
}

#[test]
fn the_shipped_examples_of_constants_are_right() {
    let text = include_str!("../../../gateway.toml");
    let examples: String = text
        .lines()
        .skip_while(|line| *line != "[vars]")
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let vars = |env: &[(&str, &str)]| {
        let config = read_with(&examples, env)?;
        Ok::<_, ConfigErrors>(config.scripts.given.vars)
    };
    let token = ("SHOP_API_TOKEN", "t");
    let given = |text: &str| Constant::Text(text.to_owned());
    let read = vars(&[token]).unwrap();
    let names: Vec<&str> = read.keys().map(String::as_str).collect();
    assert_eq!(names, ["API_TOKEN", "LEVEL", "REGION", "TEAMS"]);
    assert_eq!(
        (&read["REGION"], &read["LEVEL"]),
        (&given("eu"), &given("1"))
    );
    assert_eq!(
        vars(&[token, ("SHOP_LEVEL", "2")]).unwrap()["LEVEL"],
        given("2")
    );
    assert!(vars(&[]).unwrap_err().to_string().contains("API_TOKEN"));
}

#[test]
fn the_table_of_keys_tells_defaults_that_read_back() {
    let mut named = 0;
    for key in keys() {
        let Some(default) = key.default else {
            assert!(key.about.contains("default: "), "{}", key.variable);
            continue;
        };
        let text = format!("[{}]\n{} = {default}", key.table, key.name);
        assert_eq!(read(&text), Config::default(), "{text}");
        named += 1;
    }
    assert!(named > 40, "{named}");
    let names = env_names();
    assert_eq!(names.len(), keys().count());
    assert!(names.contains(&"WAKEGATE_PUBLIC_LISTEN".to_owned()));
    let unique: std::collections::BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len());
    assert!(
        ENV_RESERVED
            .iter()
            .all(|name| !names.contains(&(*name).to_owned()))
    );
}
