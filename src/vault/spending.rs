//! Budgets: what a caller may spend in a window, as rows that every replica shares.

use super::{
    act::{Plan, Scene},
    context::Context,
};
use crate::{
    domain::{
        caller::Caller,
        ids::CallerId,
        names::PurposeName,
        operation::{BudgetKind, BudgetLimit, BudgetWindow},
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
    reads_for(context.limit(caller, kind), caller, None, now, keys);
}

/// Adds what [`spend_value`] looks at; nothing where nobody limits the caller's values.
pub(super) fn reads_values(
    context: &Context,
    caller: CallerId,
    purpose: &PurposeName,
    now: Timestamp,
    keys: &mut ReadKeys,
) {
    for kind in BudgetKind::DISCLOSURES {
        let limit = context.limit(caller, kind);
        if !limit.is_unlimited() {
            reads_for(limit, caller, Some(purpose), now, keys);
        }
    }
}

fn reads_for(
    limit: BudgetLimit,
    caller: CallerId,
    purpose: Option<&PurposeName>,
    now: Timestamp,
    keys: &mut ReadKeys,
) {
    let start = limit.window_start(now);
    let next = start.plus_micros(i64::from(limit.window_seconds) * 1_000_000);
    let window = |start| BudgetWindow { caller, kind: limit.kind, purpose: purpose.cloned(), start };
    keys.budgets.extend([start, next].map(window));
}

/// Refuses a caller whose budget is used up, whatever it asks.
///
/// # Errors
/// [`Denial::BudgetExhausted`].
pub(super) fn check(scene: &Scene<'_>, plan: &Plan, caller: &Caller, kind: BudgetKind) -> Result<(), Denial> {
    let (window, before, limit) = state(scene, caller, kind, None);
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
    let (window, before, limit) = state(scene, caller, kind, None);
    plan.spend(window, before, limit).map_err(|_| exhausted(scene, caller, kind))
}

/// Pays for a value that leaves, from the hour's budget and the day's, or from neither. An officer is told before either
/// ends.
///
/// # Errors
/// [`Denial::BudgetExhausted`], with nothing spent.
pub(super) fn spend_value(
    scene: &Scene<'_>,
    plan: &mut Plan,
    caller: &Caller,
    purpose: &PurposeName,
) -> Result<(), Denial> {
    let limited = |kind: &BudgetKind| !scene.context.limit(caller.id, *kind).is_unlimited();
    let kinds = || BudgetKind::DISCLOSURES.into_iter().filter(limited);
    for kind in kinds() {
        let (window, before, limit) = state(scene, caller, kind, Some(purpose));
        if plan.spent(&window, before) >= limit {
            return Err(exhausted(scene, caller, kind));
        }
    }
    for kind in kinds() {
        let (window, before, limit) = state(scene, caller, kind, Some(purpose));
        let spent = plan.spent(&window, before);
        if spent < told_at(limit) && spent + 1 >= told_at(limit) {
            nearly(scene, caller, kind, purpose);
        }
        plan.spend(window, before, limit).map_err(|_| exhausted(scene, caller, kind))?;
    }
    Ok(())
}

/// Gives back what [`spend_value`] took for a value that does not leave after all.
pub(super) fn give_back_value(scene: &Scene<'_>, plan: &mut Plan, caller: &Caller, purpose: &PurposeName) {
    for kind in BudgetKind::DISCLOSURES {
        if !scene.context.limit(caller.id, kind).is_unlimited() {
            plan.give_back(&state(scene, caller, kind, Some(purpose)).0);
        }
    }
}

/// Four fifths of a limit, rounded up: then it is told.
const fn told_at(limit: u64) -> u64 {
    limit - limit / 5
}

/// An officer may ask the caller's owner before it is refused.
fn nearly(scene: &Scene<'_>, caller: &Caller, kind: BudgetKind, purpose: &PurposeName) {
    scene.shared.meters.count_nearly_exhausted(kind);
    tracing::warn!(
        platform = scene.context.platform.get(),
        caller = %caller.name,
        budget = kind.as_str(),
        %purpose,
        "four fifths of a caller's budget are spent"
    );
}

fn state(
    scene: &Scene<'_>,
    caller: &Caller,
    kind: BudgetKind,
    purpose: Option<&PurposeName>,
) -> (BudgetWindow, u64, u64) {
    let limit = scene.context.limit(caller.id, kind);
    let start = limit.window_start(scene.now);
    let window = BudgetWindow { caller: caller.id, kind, purpose: purpose.cloned(), start };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_fifths_are_told_and_never_the_first_of_a_small_limit_late() {
        assert_eq!([0, 1, 2, 5, 10, 100].map(told_at), [0, 1, 2, 4, 8, 80]);
    }
}
