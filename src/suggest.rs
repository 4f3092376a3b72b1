//! "did you mean".

/// The known name nearest to what was written, if one is near enough to be meant.
pub(crate) fn nearest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Absurdly long names are no typos, and the comparison is quadratic.
    if written.len() < 2 || written.len() > 64 {
        return None;
    }
    let tolerated = (written.len() / 3).clamp(1, 3);
    let written = written.to_lowercase();
    let cost = |name: &str| {
        let name = name.to_lowercase();
        // "net" for "network": cut short, every letter right.
        if written.len() > 2 && name.starts_with(&written) { 1 } else { distance(&written, &name) }
    };
    known
        .into_iter()
        .map(|name| (cost(name), name))
        .filter(|&(cost, _)| cost <= tolerated)
        .min()
        .map(|(_, name)| name)
}

/// The number of bytes to insert, remove, replace, or swap with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn suggests_what_is_near() {
        let known = ["pid", "network", "ipc", "noNewPrivileges"];
        assert_eq!(nearest("pdi", known), Some("pid"));
        assert_eq!(nearest("net", known), Some("network"));
        assert_eq!(nearest("nonewprivilege", known), Some("noNewPrivileges"));
        assert_eq!(nearest("x", known), None);
        assert_eq!(nearest("mount", known), None);
        assert_eq!(nearest(&"x".repeat(100_000), known), None);
    }
}
