//! Aligned columns.

use crate::container::Summary;

/// The table of `list`, with runc's columns.
pub(super) fn containers(rows: &[Summary]) -> String {
    let mut cells = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        [
            row.id.clone(),
            row.pid.to_string(),
            row.status.as_str().to_owned(),
            row.bundle.clone(),
            row.created.clone(),
            row.owner.clone(),
        ]
    }));
    aligned(&cells)
}

/// At least as wide as runc has them, so that most tables are the same to the letter.
const NARROWEST: usize = 12;
const GAP: usize = 3;

fn aligned<const COLUMNS: usize>(cells: &[[String; COLUMNS]]) -> String {
    let mut widths = [NARROWEST; COLUMNS];
    for row in cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count() + GAP);
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<String>().trim_end().to_owned()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}
