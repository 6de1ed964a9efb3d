//! What callers may spend: limits that an operator sets, and what is spent in the windows that run.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    page::{Page, PageAsk, Slice},
    replay::ItemOutcome,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        caller::Caller,
        ids::CallerId,
        names::PurposeName,
        operation::{BudgetKind, BudgetLimit, BudgetWindow},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{ReadKeys, Write, rows::config::BudgetLimitRow},
};

/// What a caller may spend of a kind, and has spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetView {
    /// Whose.
    pub caller: CallerId,
    /// The limit that holds: the caller's own, the platform's, or what holds where nobody set one.
    pub limit: BudgetLimit,
    /// For which purpose, where each has its own.
    pub purpose: Option<PurposeName>,
    /// Spent in the window that runs.
    pub spent: u64,
    /// When that window began.
    pub window_start: Timestamp,
}

impl BudgetView {
    fn of(scene: &Scene<'_>, of: &Of, at: Timestamp) -> Self {
        let window = window(of, at);
        let spent = scene.snapshot.budgets.get(&window).copied().unwrap_or_default();
        let Of { caller, limit, purpose } = of.clone();
        Self { caller, limit, purpose, spent, window_start: window.start }
    }
}

/// A budget: whose, how much, and for which purpose where each has its own.
#[derive(Debug, Clone)]
struct Of {
    caller: CallerId,
    limit: BudgetLimit,
    purpose: Option<PurposeName>,
}

impl Of {
    const fn all(caller: CallerId, limit: BudgetLimit) -> Self {
        Self { caller, limit, purpose: None }
    }
}

fn window(of: &Of, at: Timestamp) -> BudgetWindow {
    let Of { caller, limit, purpose } = of;
    BudgetWindow {
        caller: *caller,
        kind: limit.kind,
        purpose: purpose.clone(),
        start: limit.window_start(at),
    }
}

impl Vault {
    /// Sets what a caller may spend of a kind in a window.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn set_budget(
        &self,
        caller: &Caller,
        asker: Asker,
        of: CallerId,
        limit: BudgetLimit,
    ) -> Result<BudgetView, VaultError> {
        let place = self.place_of(of).await?;
        let seen = place.filter(|place| *place == caller.platform || caller.platform.get() == 0);
        let deed = Set {
            of,
            limit: BudgetLimit { caller: Some(of), ..limit },
            at: self.shared.clock.now(),
            narrows: true,
        };
        self.run(seen.unwrap_or(caller.platform), caller, asker, deed).await
    }

    /// Lists budgets by caller and kind, those that nobody set too.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_budgets(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        page: PageAsk,
    ) -> Result<Page<BudgetView>, VaultError> {
        let at = self.shared.clock.now();
        self.gather(caller, &asker, Call::ListBudgets, platform, page, |_, slice| List { slice, at }).await
    }
}

struct Set {
    of: CallerId,
    limit: BudgetLimit,
    /// When it was asked: what is spent is read for the window of this instant.
    at: Timestamp,
    /// Whether it allows less than what held before.
    narrows: bool,
}

impl Deed for Set {
    type Answer = BudgetView;

    fn call(&self) -> Call {
        Call::SetBudget
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        self.narrows
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.budgets.insert(window(&Of::all(self.of, self.limit), self.at));
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<BudgetView>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let scene = hand.scene;
        if !scene.context.callers().any(|row| row.caller.id == self.of) {
            return Err(Denial::CallerNotFound.into());
        }
        let held = scene.context.limit(self.of, self.limit.kind);
        // Another window counts from its own beginning, so what was spent may come back or be forgotten.
        self.narrows = self.limit.limit < held.limit || self.limit.window_seconds != held.window_seconds;
        let was = scene
            .context
            .limits()
            .iter()
            .find(|row| row.limit.caller == self.limit.caller && row.limit.kind == self.limit.kind);
        let was = was.map(|row| row.mac);
        let mut row = BudgetLimitRow {
            platform: scene.context.platform,
            limit: self.limit,
            updated_at: scene.now,
            mac: [0; 32],
        };
        row.mac = scene.keys().row.mac(&row.image());
        hand.log(|entry| Entry {
            object_kind: Some("limit".to_owned()),
            object: Some(format!("{}/{}", self.of, self.limit.kind.as_str()).into_bytes()),
            row_mac: Some(row.mac.into()),
            detail_sha256: Some(sha256(row.image().as_bytes()).into()),
            ..entry
        })?;
        hand.plan.reconfigures = true;
        hand.plan.tightens |= self.narrows;
        hand.plan.writes.push(Write::PutLimit(row, was));
        let view = BudgetView::of(scene, &Of::all(self.of, self.limit), self.at);
        Ok(Deeded::changed(view, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<BudgetView, VaultError> {
        let limit = hand.scene.context.limit(self.of, self.limit.kind);
        Ok(BudgetView::of(hand.scene, &Of::all(self.of, limit), self.at))
    }
}

struct List {
    slice: Slice,
    at: Timestamp,
}

impl List {
    /// One of each caller and kind; where each purpose has its own, one of each purpose that names the caller.
    fn budgets(&self, context: &Context) -> Vec<(String, Of)> {
        let mut all = Vec::new();
        for row in context.callers() {
            let caller = row.caller.id;
            for kind in BudgetKind::ALL.iter().copied() {
                let limit = context.limit(caller, kind);
                let key = format!("{caller}/{}", kind.as_str());
                if !kind.is_by_purpose() || limit.is_unlimited() {
                    all.push((key, Of::all(caller, limit)));
                    continue;
                }
                let policy = context.policy(self.at);
                let purposes = policy.into_iter().flat_map(|policy| policy.purposes_of(&row.caller));
                all.extend(purposes.map(|(purpose, _)| {
                    let of = Of { caller, limit, purpose: Some(purpose.clone()) };
                    (format!("{key}/{purpose}"), of)
                }));
            }
        }
        self.slice.of(all.into_iter())
    }
}

impl Deed for List {
    type Answer = Vec<(String, BudgetView)>;

    fn call(&self) -> Call {
        Call::ListBudgets
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        let windows = self.budgets(context).into_iter().map(|(_, of)| window(&of, self.at));
        keys.budgets.extend(windows);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let budgets = self.budgets(hand.scene.context).into_iter();
        let answer = budgets.map(|(key, of)| (key, BudgetView::of(hand.scene, &of, self.at))).collect();
        hand.log(|entry| Entry { object_kind: Some("limit".to_owned()), ..entry })?;
        Ok(Deeded::answer(answer))
    }
}
