//! The known name that an unknown one was probably meant to be.

/// The nearest of `known`, when one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let slips_max = word.chars().count() / 3 + 1;
    known
        .into_iter()
        .filter_map(|name| {
            let lower = name.to_lowercase();
            let slips = strsim::damerau_levenshtein(&word, &lower);
            // `listen_address` is far from `listen` by letters and near by meaning.
            let contains = lower.len() > 2 && (word.contains(&lower) || lower.contains(&word));
            // One slip in a word of one or two letters would make anything near to anything.
            let near = slips <= slips_max && slips < word.chars().count();
            (near || (contains && word.len() > 2)).then_some((slips, name))
        })
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, name)| name)
}

/// ``" (did you mean `X`?)"``, or nothing.
pub fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, known).map_or_else(String::new, |name| format!(" (did you mean `{name}`?)"))
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_finds_the_name_and_another_word_finds_nothing() {
        let known = ["listen", "workers", "head_timeout", "dir"];
        for (typed, meant) in [
            ("lisetn", Some("listen")),
            ("Listen", Some("listen")),
            ("listen_address", Some("listen")),
            ("worker", Some("workers")),
            ("timeout", Some("head_timeout")),
            ("directory", Some("dir")),
            ("banana", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, known), meant, "{typed}");
        }
    }
}
