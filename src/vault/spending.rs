//! Budgets: what a caller may spend in a window, as rows that every replica shares.

use super::{
    act::{Plan, Scene},
    context::Context,
};
use crate::{
    domain::{
        caller::Caller,
        ids::CallerId,
        operation::{BudgetKind, BudgetWindow},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::ReadKeys,
};

/// Adds what [`check`] and [`spend`] look at: the present window and the next, which the decision may fall into.
pub(super) fn reads(
    context: &Context,
    caller: CallerId,
    kind: BudgetKind,
    now: Timestamp,
    keys: &mut ReadKeys,
) {
    let limit = context.limit(caller, kind);
    let start = limit.window_start(now);
    let next = start.plus_micros(i64::from(limit.window_seconds) * 1_000_000);
    keys.budgets.extend([start, next].map(|start| BudgetWindow { caller, kind, start }));
}

/// Refuses a caller whose budget is used up, whatever it asks.
///
/// # Errors
/// [`Denial::BudgetExhausted`].
pub(super) fn check(scene: &Scene<'_>, plan: &Plan, caller: &Caller, kind: BudgetKind) -> Result<(), Denial> {
    let (window, before, limit) = state(scene, caller, kind);
    if plan.spent(&window, before) >= limit { Err(exhausted(scene, caller, kind)) } else { Ok(()) }
}

/// Spends one.
///
/// # Errors
/// [`Denial::BudgetExhausted`], with nothing spent.
pub(super) fn spend(
    scene: &Scene<'_>,
    plan: &mut Plan,
    caller: &Caller,
    kind: BudgetKind,
) -> Result<(), Denial> {
    let (window, before, limit) = state(scene, caller, kind);
    plan.spend(window, before, limit).map_err(|_| exhausted(scene, caller, kind))
}

fn state(scene: &Scene<'_>, caller: &Caller, kind: BudgetKind) -> (BudgetWindow, u64, u64) {
    let limit = scene.context.limit(caller.id, kind);
    let window = BudgetWindow { caller: caller.id, kind, start: limit.window_start(scene.now) };
    let before = scene.snapshot.budgets.get(&window).copied().unwrap_or(0);
    (window, before, limit.limit)
}

/// An officer must see it: somebody guesses, or burns.
fn exhausted(scene: &Scene<'_>, caller: &Caller, kind: BudgetKind) -> Denial {
    scene.shared.meters.count_exhausted(kind);
    tracing::error!(
        platform = scene.context.platform.get(),
        caller = %caller.name,
        budget = kind.as_str(),
        "a caller's budget is exhausted"
    );
    Denial::BudgetExhausted
}
