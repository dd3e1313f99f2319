//! Where the columns of a table are: as wide as their cells need, and no wider than a line may be.

use super::column::Column;

/// A column at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlacedColumn {
    pub(super) column: Column,
    pub(super) width: usize,
    /// In its short form.
    pub(super) short: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TableLayout {
    pub(super) slots: Vec<PlacedColumn>,
    /// Spaces between two columns.
    pub(super) gap: usize,
    /// What happened is said in the notes, because it has no column.
    pub(super) joined: bool,
}

/// A step that makes a line shorter.
#[derive(Clone, Copy, Debug)]
enum FitStep {
    /// One space between columns instead of two.
    Close,
    /// A column becomes narrower, down to this width.
    Narrow(Column, usize),
    /// A column takes its short form, with this width.
    Shorten(Column, usize),
    /// A column is dropped.
    Drop(Column),
}

/// In this order: the least important columns are dropped first. The remote end and the verdict
/// stay.
const STEPS: [FitStep; 18] = [
    FitStep::Close,
    FitStep::Shorten(Column::Role, 1),
    FitStep::Narrow(Column::Local, 21),
    FitStep::Narrow(Column::Process, 15),
    FitStep::Shorten(Column::Local, 6),
    FitStep::Narrow(Column::Process, 12),
    FitStep::Shorten(Column::Time, 0),
    FitStep::Drop(Column::What),
    FitStep::Narrow(Column::Notes, 16),
    FitStep::Narrow(Column::Remote, 21),
    FitStep::Drop(Column::Local),
    FitStep::Drop(Column::Took),
    FitStep::Narrow(Column::Remote, 15),
    FitStep::Drop(Column::Process),
    FitStep::Narrow(Column::Notes, 12),
    FitStep::Drop(Column::Role),
    FitStep::Drop(Column::Time),
    FitStep::Narrow(Column::Remote, 9),
];

/// The fewest characters worth a column of notes: the longest verdict is a little shorter.
const NOTES: usize = 24;

/// Columns that get the remaining room, in this order; the rest is for the notes.
const GROWING: [Column; 3] = [Column::Remote, Column::Process, Column::Local];

impl TableLayout {
    /// Lays out columns that need so many characters each, in lines of `limit`. With `chosen`, none
    /// is dropped.
    pub(super) fn fit(needs: &[(Column, usize)], limit: Option<usize>, chosen: bool) -> Self {
        let mut layout = Self {
            slots: needs
                .iter()
                .map(|&(column, width)| PlacedColumn {
                    column,
                    width,
                    short: false,
                })
                .collect(),
            gap: 2,
            joined: false,
        };
        let Some(limit) = limit else {
            return layout;
        };
        if let Some(notes) = layout.slot(Column::Notes) {
            notes.width = NOTES;
        }
        for step in STEPS {
            if layout.total() <= limit {
                break;
            }
            layout.give_up(step, chosen);
        }
        let mut left = limit.saturating_sub(layout.total());
        for column in GROWING {
            let need = needs.iter().find(|(of, _)| *of == column);
            if let (Some(slot), Some(&(_, need))) = (layout.slot(column), need)
                && !slot.short
            {
                let more = need.saturating_sub(slot.width).min(left);
                slot.width += more;
                left -= more;
            }
        }
        if let Some(notes) = layout.slot(Column::Notes) {
            notes.width += left;
        }
        layout
    }

    fn slot(&mut self, column: Column) -> Option<&mut PlacedColumn> {
        self.slots.iter_mut().find(|slot| slot.column == column)
    }

    pub(super) fn has(&self, column: Column) -> bool {
        self.slots.iter().any(|slot| slot.column == column)
    }

    fn total(&self) -> usize {
        let gaps = self.slots.len().saturating_sub(1) * self.gap;
        self.slots.iter().map(|slot| slot.width).sum::<usize>() + gaps
    }

    fn give_up(&mut self, step: FitStep, chosen: bool) {
        match step {
            FitStep::Close => self.gap = 1,
            FitStep::Narrow(column, width) => {
                if let Some(slot) = self.slot(column) {
                    slot.width = slot.width.min(width);
                }
            }
            FitStep::Shorten(column, width) => {
                if let Some(slot) = self.slot(column) {
                    slot.short = true;
                    slot.width = if column == Column::Time {
                        slot.width.saturating_sub(".000".len())
                    } else {
                        width
                    };
                }
            }
            FitStep::Drop(column) if !chosen => {
                self.slots.retain(|slot| slot.column != column);
                self.joined |= column == Column::What;
            }
            FitStep::Drop(_) => {}
        }
    }

    /// Whether both show the same things in the same form, whatever their widths.
    pub(super) fn shows_as(&self, other: &Self) -> bool {
        let shape = |slot: &PlacedColumn| (slot.column, slot.short);
        self.slots
            .iter()
            .map(shape)
            .eq(other.slots.iter().map(shape))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn needs(local: usize, remote: usize) -> Vec<(Column, usize)> {
        let widths = [12, 20, 7, local, remote, 5, 7, 0];
        Column::DEFAULT.into_iter().zip(widths).collect()
    }

    fn shown(limit: usize) -> Vec<(Column, usize)> {
        TableLayout::fit(&needs(21, 21), Some(limit), false)
            .slots
            .iter()
            .map(|slot| (slot.column, slot.width))
            .collect()
    }

    #[test]
    fn a_narrow_line_keeps_the_far_end_and_how_it_ended() {
        use Column::{Local, Notes, Process, Remote, Role, Time, Took, What};
        assert_eq!(
            shown(200),
            [
                (Time, 12),
                (Process, 20),
                (Role, 7),
                (Local, 21),
                (Remote, 21),
                (What, 5),
                (Took, 7),
                (Notes, 93),
            ]
        );
        assert_eq!(
            shown(80),
            [
                (Time, 8),
                (Process, 15),
                (Role, 1),
                (Local, 6),
                (Remote, 21),
                (Took, 7),
                (Notes, 16),
            ]
        );
        assert_eq!(shown(40), [(Time, 8), (Role, 1), (Remote, 16), (Notes, 12)]);
        assert_eq!(shown(22), [(Remote, 9), (Notes, 12)]);
    }

    proptest! {
        #[test]
        fn a_line_is_never_longer_than_it_may_be(
            limit in 22_usize..300,
            local in 1_usize..60,
            remote in 1_usize..60,
        ) {
            let layout = TableLayout::fit(&needs(local, remote), Some(limit), false);
            prop_assert!(layout.total() <= limit, "{layout:?}");
            let has = |column| layout.slots.iter().any(|slot| slot.column == column);
            prop_assert!(has(Column::Remote) && has(Column::Notes));
            prop_assert!(layout.joined != has(Column::What));
            prop_assert_eq!(layout.total(), limit);
        }
    }
}
