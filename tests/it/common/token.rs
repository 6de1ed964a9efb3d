//! A SoftHSM token of a test's own. The module reads where its tokens are when a process starts, so such a test runs
//! itself again in a process of its own.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const LABEL: &str = "vault";
/// Variable that holds the PIN.
pub const PIN: &str = "SANDYQ_TEST_PIN";
const HOME: &str = "SANDYQ_TEST_TOKENS";

/// Tokens of this process.
pub struct Tokens {
    home: PathBuf,
}

impl Tokens {
    /// In the test's own process, its tokens; in the first one, none, after the test has passed in its own.
    #[expect(clippy::disallowed_methods, reason = "how a test knows that it is the second process")]
    pub fn own_process(test: &str) -> Option<Self> {
        if let Some(home) = env::var_os(HOME) {
            return Some(Self { home: home.into() });
        }
        assert!(
            Path::new(MODULE).exists(),
            "no SoftHSM: run `scripts/softhsm`, or the tests through `scripts/test`"
        );
        let dir = tempfile::tempdir().unwrap();
        let (home, config) = (dir.path().join("tokens"), dir.path().join("softhsm2.conf"));
        fs::create_dir(&home).unwrap();
        let settings = format!("directories.tokendir = {}\nobjectstore.backend = file\n", home.display());
        fs::write(&config, settings).unwrap();
        let made = Command::new("softhsm2-util")
            .args(["--init-token", "--free", "--label", LABEL, "--so-pin", "12345678", "--pin", "1234"])
            .env("SOFTHSM2_CONF", &config)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let run = Command::new(env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .envs([(HOME, &home), ("SOFTHSM2_CONF", &config)])
            .env(PIN, "1234")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success() && said.contains("1 passed"), "{said}{errors}");
        None
    }

    /// Takes every token out.
    pub fn remove(&self) {
        fs::rename(&self.home, self.away()).unwrap();
        fs::create_dir(&self.home).unwrap();
    }

    /// Puts them back.
    pub fn insert(&self) {
        fs::remove_dir(&self.home).unwrap();
        fs::rename(self.away(), &self.home).unwrap();
    }

    fn away(&self) -> PathBuf {
        self.home.with_file_name("away")
    }
}
