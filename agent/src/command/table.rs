//! Tables of plain text that fit a terminal of 80 columns.

/// What a table may be wide.
const MAX_WIDTH: usize = 80;
/// No column is made narrower than this.
const MIN_COLUMN: usize = 8;
const GAP: usize = 2;

/// Rows under a head. Figures stand to the right, texts to the left.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    /// A table with these columns; a name that begins with `>` is a column of figures.
    pub(super) fn new(columns: &[&str]) -> Self {
        let head = columns.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![head], right: columns.iter().map(|name| name.starts_with('>')).collect() }
    }

    /// Adds a row: a cell for each column.
    pub(super) fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.right.len(), "a row has a cell for each column");
        self.rows.push(cells);
    }

    /// Whether there is nothing below the head.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The lines, each with its line break. What does not fit is cut in the widest columns of text.
    pub(super) fn draw(&self) -> String {
        let widths = self.widths();
        let mut drawn = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let cell = shorten(cell, *width);
                let space = " ".repeat(width - cell.chars().count());
                line += &if *right { space + &cell } else { cell + &space };
                line += &" ".repeat(GAP);
            }
            drawn += line.trim_end();
            drawn.push('\n');
        }
        drawn
    }

    fn widths(&self) -> Vec<usize> {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let gaps = GAP * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > MAX_WIDTH {
            let texts = widths.iter_mut().zip(&self.right).filter(|(width, right)| !**right && **width > MIN_COLUMN);
            let Some((widest, _)) = texts.max_by_key(|(width, _)| **width) else { break };
            *widest -= 1;
        }
        widths
    }
}

/// At most `width` characters of `text`, on one line; a cut is shown.
pub(super) fn shorten(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(clean).collect();
    }
    let kept: String = text.chars().map(clean).take(width.saturating_sub(1)).collect();
    kept + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stand_left_and_figures_right() {
        let mut table = Table::new(&["stream", ">events"]);
        table.row(vec!["line1".to_owned(), "7".to_owned()]);
        table.row(vec!["a".to_owned(), "1,234".to_owned()]);
        assert_eq!(table.draw(), "stream  events\nline1        7\na        1,234\n");
    }

    #[test]
    fn a_wide_table_is_cut_to_80_columns_in_its_texts() {
        let mut table = Table::new(&["name", "reason", ">events"]);
        table.row(vec!["n".repeat(60), "r".repeat(200), "123,456,789".to_owned()]);
        let drawn = table.draw();
        assert!(drawn.lines().all(|line| line.chars().count() <= MAX_WIDTH), "{drawn}");
        assert!(drawn.contains("123,456,789") && drawn.contains('…'), "{drawn}");
    }

    #[test]
    fn a_cell_cannot_break_the_table_or_the_terminal() {
        let mut table = Table::new(&["reason"]);
        table.row(vec!["two\nlines\x1b[2J".to_owned()]);
        assert_eq!(table.draw(), "reason\ntwo lines [2J\n");
    }
}
