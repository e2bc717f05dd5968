//! Functions for scripts, each registered with its signature and its documentation.
//!
//! What editors, `wakegate definitions` and docs/SCRIPTING.md are told of a function stands where it
//! is registered.

use rhai::{Engine, FuncRegistration, RhaiNativeFunc, Variant};

/// Registering with words.
pub trait Documented {
    /// Registers a function. The signature is as a definition file has it:
    /// `"proxy(name: String) -> ProxyDecision"`, a method with its receiver as the first parameter, a
    /// property as `"get path(req: Request) -> String"`. Each line of `doc` is one of its doc comment.
    ///
    /// # Panics
    /// When the signature is none, or has another number of parameters than the function.
    fn document<A: 'static, const N: usize, const X: bool, R, const F: bool, Function>(
        &mut self,
        signature: &str,
        doc: &str,
        function: Function,
    ) where
        R: Variant + Clone,
        Function: RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static;
}

impl Documented for Engine {
    fn document<A: 'static, const N: usize, const X: bool, R, const F: bool, Function>(
        &mut self,
        signature: &str,
        doc: &str,
        function: Function,
    ) where
        R: Variant + Clone,
        Function: RhaiNativeFunc<A, N, X, R, F> + Send + Sync + 'static,
    {
        let Some(parsed) = Signature::parse(signature) else {
            panic!("{signature:?} is no signature");
        };
        let lines = doc.lines().flat_map(|line| wrapped(line.trim()));
        let comment: Vec<String> = lines
            .map(|line| format!("/// {line}").trim_end().to_owned())
            .collect();
        let registration = if parsed.is_property {
            FuncRegistration::new_getter(parsed.name)
        } else {
            FuncRegistration::new(parsed.name)
        };
        let mut told: Vec<&str> = parsed.parameters;
        let parameters = told.len();
        told.push(parsed.returns);
        let metadata = registration
            .with_params_info(told)
            .with_comments([comment.join("\n")])
            .register_into_engine(self, function);
        assert_eq!(
            metadata.num_params, parameters,
            "{signature:?} has another number of parameters than its function"
        );
    }
}

/// The line in parts of a width that an editor has room for; broken at blanks only.
fn wrapped(line: &str) -> Vec<String> {
    const WIDTH: usize = 110;
    let mut parts = vec![String::new()];
    for word in line.split(' ') {
        let last = parts.len() - 1;
        if !parts[last].is_empty() && parts[last].len() + word.len() > WIDTH {
            parts.push(word.to_owned());
        } else {
            let blank = if parts[last].is_empty() { "" } else { " " };
            parts[last] += &format!("{blank}{word}");
        }
    }
    parts
}

struct Signature<'a> {
    name: &'a str,
    is_property: bool,
    /// `name: Type`
    parameters: Vec<&'a str>,
    returns: &'a str,
}

impl<'a> Signature<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (is_property, text) = match text.strip_prefix("get ") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (name, rest) = text.split_once('(')?;
        let (parameters, rest) = rest.split_once(')')?;
        let returns = match rest.trim() {
            "" => "()",
            rest => rest.strip_prefix("->")?.trim(),
        };
        let parameters: Vec<&str> = parameters
            .split(',')
            .map(str::trim)
            .filter(|parameter| !parameter.is_empty())
            .collect();
        let are_named = parameters.iter().all(|parameter| parameter.contains(": "));
        (are_named && rhai::is_valid_identifier(name)).then_some(Self {
            name,
            is_property,
            parameters,
            returns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_taken_apart() {
        let parsed = Signature::parse("a_b(x: String, y: i64) -> Map").unwrap();
        assert_eq!(
            (parsed.name, parsed.parameters.as_slice(), parsed.returns),
            ("a_b", &["x: String", "y: i64"][..], "Map")
        );
        let parsed = Signature::parse("get path(req: Request) -> String").unwrap();
        assert!(parsed.is_property && parsed.name == "path");
        assert_eq!(Signature::parse("a()").unwrap().returns, "()");
        for bad in ["", "a", "a(x)", "a(x: String) String", "a b()"] {
            assert!(Signature::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    #[should_panic(expected = "another number of parameters")]
    fn a_signature_that_does_not_fit_is_noticed() {
        Engine::new_raw().document("f(x: i64)", "", |_: i64, _: i64| ());
    }
}
