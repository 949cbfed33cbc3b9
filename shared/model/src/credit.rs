//! Credit: how many orders may be out at an instance, so that none waits in its queue past its deadline.
//!
//! Pure. What is counted is the table's: all orders that are out at the instance in one lane. What limits them is what
//! its consumers can do: a copy carries out `concurrency` orders at once (its *hands*), and within the deadline of an
//! order each hand does at least as many as the deadline holds longest calls; of slow ones, one.
use crate::plan::Step;
use crate::step::Mode;

/// What an order asks of the credit of its instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// How many such orders one hand surely carries out, one after the other, within the deadline of the last.
    pub rounds: u32,
}

impl Draw {
    /// For whom only whether the instance is there matters.
    pub const ANY: Self = Self { rounds: u32::MAX };

    /// The draw of a step's order.
    pub fn of(step: &Step, mode: Mode) -> Self {
        if mode.changes() && (step.slow || step.long) {
            return Self { rounds: 1 };
        }
        let rounds = step.deadline_ms.checked_div(step.longest_call_ms).unwrap_or(1).max(1);
        Self { rounds: u32::try_from(rounds).unwrap_or(u32::MAX) }
    }

    /// Most orders that may be out at an instance whose living copies have so many `hands`, this one included;
    /// never more than what is `configured`.
    pub fn most(self, hands: u32, configured: u32) -> u32 {
        hands.saturating_mul(self.rounds).min(configured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(step: &str, mode: Mode) -> Draw {
        let plan = crate::decide::test_plan();
        let found = plan.stages.iter().flat_map(|s| &s.steps).find(|s| s.name == step).cloned();
        Draw::of(&found.unwrap_or_else(|| panic!("no step {step}")), mode)
    }

    #[test]
    fn slow_orders_get_no_more_than_there_are_hands() {
        let copies = 3 * 16;
        // Long, because it says so; slow, because its catalogue does.
        for step in ["hypervisor.copy", "hypervisor.stop"] {
            assert_eq!(draw(step, Mode::Perform).most(copies, 512), 48, "{step}");
            assert_eq!(draw(step, Mode::Undo).most(copies, 32), 32, "{step}: bounded by what is configured");
        }
        assert_eq!(draw("hypervisor.stop", Mode::Capture).most(16, 512), 64, "a look is quick");
    }

    #[test]
    fn quick_orders_get_what_a_deadline_holds() {
        // 10 s, calls of at most 5 s each.
        assert_eq!(draw("hypervisor.undefine", Mode::Perform).most(16, 512), 32);
        assert_eq!(draw("hypervisor.undefine", Mode::Perform).most(256 * 4, 512), 512);
        assert_eq!(draw("hypervisor.undefine", Mode::Perform).most(0, 512), 0, "nobody is there");
    }
}
