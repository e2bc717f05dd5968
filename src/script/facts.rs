//! What hooks other than routes are told and what templates make of it: containers, errors, specs.

use std::collections::BTreeMap;
use std::sync::Arc;

use rhai::{Array, Dynamic, Engine, INT, Map};
use serde_json::Value;

use crate::decision::{ContainerFacts, ErrorFacts};
use crate::script::answers::shown;
use crate::script::documented::Documented as _;
use crate::spec::WorkloadSpec;

/// `c` in a script.
#[derive(Debug, Clone)]
pub struct Container(pub Arc<ContainerFacts>);

/// Registers `c`.
pub fn register(engine: &mut Engine) {
    engine.register_type_with_name::<Container>("Container");
    type Text = fn(&ContainerFacts) -> &String;
    let texts: [(&str, &str, Text); 3] = [
        ("name", "The container's name.", |facts| &facts.name),
        ("id", "The engine's id of the container.", |facts| &facts.id),
        (
            "image",
            "The image that the container was made of, as it was named then.",
            |facts| &facts.image,
        ),
    ];
    for (name, doc, text) in texts {
        engine.document(
            &format!("get {name}(c: Container) -> String"),
            doc,
            move |c: &mut Container| text(&c.0).clone(),
        );
    }
    engine.document(
        "get has_healthcheck(c: Container) -> bool",
        "Whether the engine checks the container's health (HEALTHCHECK), which `health()` asks for.",
        |c: &mut Container| c.0.has_healthcheck,
    );
    engine.document(
        "get ports(c: Container) -> Array",
        "The TCP ports that the container exposes, as numbers, lowest first.",
        |c: &mut Container| -> Array {
            c.0.ports
                .iter()
                .map(|port| INT::from(*port).into())
                .collect()
        },
    );
    type Texts = fn(&ContainerFacts) -> &BTreeMap<String, String>;
    let texts: [(&'static str, &str, &str, Texts); 2] = [
        ("label", "labels", "label", |facts| &facts.labels),
        ("env", "envs", "environment variable", |facts| &facts.envs),
    ];
    for (one, all, word, texts) in texts {
        engine.document(
            &format!("get {all}(c: Container) -> Map"),
            &format!("Every {word} of the container, as text by name."),
            move |c: &mut Container| -> Map {
                let texts = texts(&c.0).iter();
                texts.map(|(key, text)| (key.into(), text.into())).collect()
            },
        );
        engine.document(
            &format!("{one}(c: Container, name: String) -> String"),
            &format!("The {word} of that name; \"\" where the container has none."),
            move |c: &mut Container, name: &str| texts(&c.0).get(name).cloned().unwrap_or_default(),
        );
        engine.document(
            &format!("{one}(c: Container, name: String, otherwise: Dynamic) -> Dynamic"),
            &format!(
                "The {word} of that name; `otherwise`, of any type, where the container has none."
            ),
            move |c: &mut Container, name: &str, otherwise: Dynamic| {
                texts(&c.0)
                    .get(name)
                    .map_or(otherwise, |text| text.clone().into())
            },
        );
    }
}

/// `err` in a script.
pub fn error(facts: &ErrorFacts) -> Dynamic {
    let mut map = Map::new();
    map.insert("status".into(), INT::from(facts.status).into());
    map.insert("kind".into(), facts.kind.as_ref().into());
    map.insert("message".into(), facts.message.clone().into());
    map.insert("workload".into(), facts.workload.clone().into());
    map.insert("app".into(), facts.app.clone().into());
    let retry_after = facts.retry_after_secs.map_or(Dynamic::UNIT, |s| {
        INT::try_from(s).unwrap_or(INT::MAX).into()
    });
    map.insert("retry_after".into(), retry_after);
    map.into()
}

/// A template's `vars`. Null becomes `()`, a number that is no `i64` a float.
pub fn vars(vars: &serde_json::Map<String, Value>) -> Result<Dynamic, String> {
    let map: Map = vars
        .iter()
        .map(|(key, value)| Ok((key.into(), rhai::serde::to_dynamic(value)?)))
        .collect::<Result<_, Box<rhai::EvalAltResult>>>()
        .map_err(|error| format!("the vars cannot be used in a script: {error}"))?;
    Ok(map.into())
}

/// A specification by the names of its fields, without those that are not set.
pub fn spec_fields(spec: &WorkloadSpec) -> Value {
    // Texts, numbers and lists of them: there is nothing that could not be written.
    serde_json::to_value(spec).unwrap_or_default()
}

/// What a template returned.
pub fn spec(answer: Dynamic) -> Result<WorkloadSpec, String> {
    let map = answer.try_cast_result::<Map>().map_err(|other| {
        format!(
            "the template returned {}; it returns a map: #{{ name: …, image: … }}",
            shown(&other)
        )
    })?;
    let json = Value::Object(json_object(&map)?);
    serde_path_to_error::deserialize(json).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            "." => format!("the specification: {}", error.inner()),
            path => format!("the specification's {path}: {}", error.inner()),
        }
    })
}

/// A script's map as JSON. What JSON has nothing for, such as a closure, is an error.
pub fn json_object(map: &Map) -> Result<serde_json::Map<String, Value>, String> {
    map.iter()
        .map(|(key, value)| match json(value) {
            Ok(value) => Ok((key.to_string(), value)),
            Err(message) => Err(format!("{key}: {message}")),
        })
        .collect()
}

fn json(value: &Dynamic) -> Result<Value, String> {
    if value.is_unit() {
        return Ok(Value::Null);
    }
    if let Ok(truth) = value.as_bool() {
        return Ok(truth.into());
    }
    if let Ok(number) = value.as_int() {
        return Ok(number.into());
    }
    if let Ok(number) = value.as_float() {
        return serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(|| format!("{number} is no number that can be written down"));
    }
    if value.is_string() || value.is_char() {
        return Ok(value.to_string().into());
    }
    if let Ok(items) = value.as_array_ref() {
        return items.iter().map(json).collect();
    }
    match value.as_map_ref() {
        Ok(map) => json_object(&map).map(Value::Object),
        Err(_) => Err(format!(
            "{} is no value that can be written down",
            shown(value)
        )),
    }
}
