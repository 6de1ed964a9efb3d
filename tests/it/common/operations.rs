//! Long work in an open vault: what the server does every few seconds, by hand.

use sandyq::{
    domain::{
        ids::OperationId,
        operation::{Operation, OperationState},
    },
    vault::{access::Call, error::VaultError},
};

use super::vault::{OpenVault, as_admin};

/// How an operation stands.
pub async fn operation(open: &OpenVault, id: OperationId) -> Operation {
    open.vault.operation(&open.admin(), as_admin(), Call::GetOperation, id).await.unwrap().unwrap()
}

/// Takes up what is due, once.
pub async fn work_once(open: &OpenVault) -> Result<(), VaultError> {
    for due in open.vault.work().await?.long {
        open.vault.work_long(&due).await?;
    }
    Ok(())
}

/// Takes up what is due until nothing is left to do, or it goes on only after another process did its part.
pub async fn work_through(open: &OpenVault) {
    loop {
        let due = open.vault.work().await.unwrap().long;
        let Some(first) = due.first() else { return };
        open.vault.work_long(first).await.unwrap();
        if operation(open, first.id).await.state == OperationState::Running {
            return;
        }
    }
}
