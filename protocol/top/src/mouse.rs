//! What the mouse does.

use ratatui::crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use ratatui::layout::Position;

use super::app::App;

impl App {
    pub(super) fn mouse(&mut self, mouse: MouseEvent) {
        let at = Position::new(mouse.column, mouse.row);
        if self.ask.is_some() || self.prompt.is_some() {
            return;
        }
        match mouse.kind {
            MouseEventKind::ScrollDown => self.wheel(3),
            MouseEventKind::ScrollUp => self.wheel(-3),
            MouseEventKind::Down(MouseButton::Left) => {
                if let Some((_, tab)) = self.places.tabs.iter().find(|(area, _)| area.contains(at)) {
                    return self.show(*tab);
                }
                let Some((area, top)) = self.places.rows.filter(|(area, _)| area.contains(at)) else {
                    return;
                };
                let Some(table) = self.table() else { return };
                let row = top + usize::from(at.y - area.y);
                if row >= table.rows.len() {
                    return;
                }
                let was = self.list().position(table.ids());
                if was == Some(row) && self.list().selected.is_some() {
                    self.open_selected();
                } else {
                    self.list_mut().select(table.ids(), row);
                }
            }
            _ => {}
        }
    }

    fn wheel(&mut self, by: isize) {
        match self.log.as_mut() {
            Some(log) => log.turn_by(by),
            None => self.step(by),
        }
    }
}
