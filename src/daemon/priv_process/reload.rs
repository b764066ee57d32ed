//! The files have changed: what of that counts at once, and what takes a restart.

use super::Priv;
use crate::daemon::clients::Clients;
use crate::daemon::config::{Config, ServerKey};
use crate::daemon::frame::{Begin, Frame};
use crate::daemon::{last_good, serve, system};
use crate::firewall::Form;
use crate::time::Now;

/// When packet sockets are asked for again: ms.
const AGAIN: u64 = 1_000;

impl Priv {
    /// Reads the files again. Whatever is wrong with them, what was good before stays.
    pub(super) fn reload(&mut self, now: Now) -> Result<(), String> {
        let loaded = system::load(&self.config.path);
        let (mut config, key, clients) = loaded.map_err(|e| {
            log::error!("not reloaded, everything stays as it was: {e}");
            e.to_string()
        })?;
        let lasting = |c: &Config| {
            (
                c.listen.clone(),
                c.captures.clone(),
                c.server.clone(),
                c.gate.clone(),
                c.hooks.user.clone(),
            )
        };
        let before = lasting(&self.config);
        if lasting(&config) != before {
            log::warn!(
                "[server], [[listen]], [http-gate] or the user of [hook] has changed: that takes a \
                 restart of the server"
            );
        }
        let (listen, captures, server, gate, user) = before;
        config.hooks.user = user;
        let observe = self.config.observe;
        let config = Config { listen, captures, server, gate, observe, ..config };
        let shut_out = config.shut_out().map(|(port, service)| {
            format!("[service.{service}] protects udp/{port}, where this server listens")
        });
        let unheard =
            || config.unheard().map(|p| format!("new ports of [[knock]] ({p}) take a restart"));
        if let Some(why) = shut_out.or_else(unheard) {
            log::error!("not reloaded, everything stays as it was: {why}");
            return Err(why);
        }
        self.enforcer.can_do(&config).map_err(|e| {
            log::error!("not reloaded, everything stays as it was: {e}");
            e.to_string()
        })?;
        if let Err(why) = serve::hooks_have_a_user(&config, self.user) {
            log::error!("not reloaded, everything stays as it was: {why}");
            return Err(why.to_string());
        }
        let before = (self.config.backend, &self.config.form);
        let other = system::outlives(before, (config.backend, &config.form));
        if other || config.shield() != self.config.shield() {
            let guest = |form: &Form| matches!(form, Form::Chain { .. });
            let guests = guest(&self.config.form) && guest(&config.form);
            self.enforcer.replace(&config, (other, guests), now).map_err(|e| {
                log::error!("not reloaded: {e}");
                e.to_string()
            })?;
        }
        self.config = config;
        if self.unconfirmed.is_none() {
            last_good::keep(&self.config);
        }
        self.hand_down(key, clients, now);
        if self.restored {
            self.settle_hooks();
        }
        Ok(())
    }

    /// Reads the clients' files again. server.toml counts as it was: somebody may be in the middle
    /// of editing it, and that must not keep a client from being revoked.
    pub(super) fn reload_clients(&mut self, now: Now) {
        match system::keys(&self.config) {
            Ok((key, clients)) => self.hand_down(key, clients, now),
            Err(e) => log::error!("not reloaded, everything stays as it was: {e}"),
        }
    }

    fn hand_down(&mut self, key: ServerKey, clients: Clients, now: Now) {
        self.generation += 1;
        if let Some(engine) = &mut self.engine {
            let begin =
                Begin { server: key.id, window: self.config.policy.window, become_user: self.user };
            engine.channel.push(&Frame::Begin(begin), self.generation, vec![]);
        }
        let doors = key.fingerprint();
        self.configure(key, clients, now);
        let before = std::mem::replace(&mut self.doors, doors);
        if before != doors
            && self.restored
            && let Err(why) = self.hand_captures_down()
        {
            // Those that there are go on with the older keys, and [engine] with everything else.
            log::error!("captures do not know the new door keys yet: {why}; trying again");
            (self.doors, self.reload_at) = (before, Some(now.mono.plus(AGAIN)));
        }
        log::info!("reloaded: {} clients", self.names.len());
    }
}
