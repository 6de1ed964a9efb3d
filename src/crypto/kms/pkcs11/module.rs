//! A PKCS#11 module, as one process may load it: once, with sessions that are kept, and started anew where a token went
//! away and came back.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    session::{Session, UserType},
    slot::Slot,
    types::AuthPin,
};
use ring::digest::{SHA256, digest};

use crate::crypto::kms::{KmsError, SecretSource, read_secret};

/// Modules of this process by path: a second `C_Initialize` is refused, and `C_Finalize` ends the sessions of all.
static MODULES: Mutex<BTreeMap<PathBuf, Arc<Module>>> = Mutex::new(BTreeMap::new());

/// A loaded module.
pub(super) struct Module {
    library: Pkcs11,
    /// How often it was started. Held for reading by every call, and for writing while it is started anew: by then all
    /// sessions are in `idle`, since a handle of before would close a session of afterwards.
    started: RwLock<u64>,
    /// Logged-in sessions by label of the token.
    idle: Mutex<BTreeMap<String, Vec<Session>>>,
}

/// Why a call of the module did not do its work.
pub(super) enum Trouble {
    /// The session or the token may be gone: another session may do better.
    Token(KmsError),
    /// Another session would say the same.
    Final(KmsError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Token(KmsError::unavailable("the PKCS#11 module refuses", &error))
    }
}

impl From<KmsError> for Trouble {
    fn from(error: KmsError) -> Self {
        Self::Final(error)
    }
}

/// A token of a module, and how the vault is let in.
pub(super) struct Token {
    pub(super) module: Arc<Module>,
    pub(super) label: String,
    pub(super) pin: SecretSource,
    /// Digest of a PIN that the token refused. It is not tried again: a token locks itself after a few.
    pub(super) refused_pin: Mutex<Option<[u8; 32]>>,
}

/// What a call of the module works with.
pub(super) struct Access<'a> {
    library: &'a Pkcs11,
    label: &'a str,
    pub(super) session: &'a Session,
}

impl Access<'_> {
    /// Fails where the token is gone. A session may find no keys then, and tell nobody why.
    pub(super) fn require_token(&self) -> Result<(), Trouble> {
        let slot = self.session.get_session_info()?.slot_id();
        if self.library.get_token_info(slot)?.label() == self.label {
            return Ok(());
        }
        Err(Trouble::Token(no_token(self.label)))
    }
}

impl Module {
    /// Loads the module, where this process has not done so before.
    pub(super) fn load(path: &Path) -> Result<Arc<Self>, KmsError> {
        let mut modules = lock(&MODULES);
        if let Some(module) = modules.get(path) {
            return Ok(Arc::clone(module));
        }
        let cannot = |error: Error| {
            KmsError::unavailable(format!("{} cannot be used as a PKCS#11 module", path.display()), &error)
        };
        let library = Pkcs11::new(path).map_err(cannot)?;
        initialize(&library).map_err(cannot)?;
        let module = Arc::new(Self { library, started: RwLock::new(0), idle: Mutex::default() });
        modules.insert(path.to_owned(), Arc::clone(&module));
        Ok(module)
    }

    /// Starts the module anew, unless that happened since `seen`. Some modules, SoftHSM among them, do not see a token
    /// again in any other way.
    fn restart(&self, seen: u64) {
        let mut started = self.started.write().unwrap_or_else(PoisonError::into_inner);
        if *started != seen {
            return;
        }
        *started += 1;
        lock(&self.idle).clear();
        if let Err(error) = self.library.clone().finalize() {
            tracing::debug!(%error, "the PKCS#11 module did not finish");
        }
        if let Err(error) = initialize(&self.library) {
            tracing::debug!(%error, "the PKCS#11 module did not start");
        }
    }

    fn slot(&self, label: &str) -> Result<Slot, Trouble> {
        let mut found = None;
        for slot in self.library.get_slots_with_token()? {
            // A token that cannot say its label may be another one.
            if self.library.get_token_info(slot).is_ok_and(|info| info.label() == label)
                && found.replace(slot).is_some()
            {
                let text = format!("two tokens are labelled {label}");
                return Err(Trouble::Final(KmsError::Unavailable(text)));
            }
        }
        found.ok_or_else(|| Trouble::Token(no_token(label)))
    }
}

impl Token {
    /// Runs `work` in a session; where that or the token turns out to be gone, once more in a new one. `write` gives a
    /// session that may change the token.
    pub(super) fn run<T>(
        &self,
        write: bool,
        work: &dyn Fn(&Access<'_>) -> Result<T, Trouble>,
    ) -> Result<T, KmsError> {
        let (started, first) = self.attempt(write, work);
        match first {
            Ok(done) => return Ok(done),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Token(_)) => self.module.restart(started),
        }
        match self.attempt(write, work).1 {
            Ok(done) => Ok(done),
            Err(Trouble::Final(error) | Trouble::Token(error)) => Err(error),
        }
    }

    fn attempt<T>(
        &self,
        write: bool,
        work: &dyn Fn(&Access<'_>) -> Result<T, Trouble>,
    ) -> (u64, Result<T, Trouble>) {
        let started = self.module.started.read().unwrap_or_else(PoisonError::into_inner);
        (*started, self.work(write, work))
    }

    fn work<T>(&self, write: bool, work: &dyn Fn(&Access<'_>) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let idle = || lock(&self.module.idle).get_mut(&self.label).and_then(Vec::pop);
        let session = match if write { None } else { idle() } {
            Some(session) => session,
            None => self.open(write)?,
        };
        let access = Access { library: &self.module.library, label: &self.label, session: &session };
        let done = work(&access);
        if !write && !matches!(done, Err(Trouble::Token(_))) {
            lock(&self.module.idle).entry(self.label.clone()).or_default().push(session);
        }
        done
    }

    fn open(&self, write: bool) -> Result<Session, Trouble> {
        let library = &self.module.library;
        let slot = self.module.slot(&self.label)?;
        let session = if write { library.open_rw_session(slot)? } else { library.open_ro_session(slot)? };
        self.log_in(&session)?;
        Ok(session)
    }

    fn log_in(&self, session: &Session) -> Result<(), Trouble> {
        let pin = read_secret("PIN", &self.pin)?;
        let hash = hash_of(&pin);
        let mut refused = lock(&self.refused_pin);
        let wrong = || {
            let text = "the token refused this PIN; it is not tried again before it changes";
            Trouble::Final(KmsError::Unavailable(text.to_owned()))
        };
        if *refused == Some(hash) {
            return Err(wrong());
        }
        match session.login(UserType::User, Some(&AuthPin::from(pin.as_str()))) {
            // One login of a process holds for all its sessions.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
            Err(Error::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange | RvError::PinLocked,
                _,
            )) => {
                *refused = Some(hash);
                Err(wrong())
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn hash_of(pin: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, pin.as_bytes()).as_ref());
    hash
}

fn initialize(library: &Pkcs11) -> Result<(), Error> {
    match library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn no_token(label: &str) -> KmsError {
    KmsError::Unavailable(format!("no token is labelled {label}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
