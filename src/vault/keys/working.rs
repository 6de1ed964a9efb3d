//! Long work that runs in this process.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinHandle;

use crate::{
    domain::{ids::OperationId, operation::Operation},
    vault::Vault,
};

/// Long work that this process does.
#[derive(Default)]
pub(in crate::vault) struct Working(BTreeMap<OperationId, JoinHandle<()>>);

impl Working {
    /// Begins work on each that nobody here works on.
    pub(in crate::vault) fn begin(&mut self, vault: &Arc<Vault>, due: Vec<Operation>) {
        self.0.retain(|_, task| !task.is_finished());
        for operation in due {
            if self.0.contains_key(&operation.id) {
                continue;
            }
            let vault = Arc::clone(vault);
            let id = operation.id;
            let task = tokio::spawn(async move {
                if let Err(error) = vault.work_long(&operation).await {
                    tracing::warn!(operation = %operation.id, %error, "long work stopped; it is taken up again");
                }
            });
            self.0.insert(id, task);
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}
