//! Eviction of clients: what happens when all of them together take more memory than `maxmemory-clients`.
//!
//! The largest go first, wherever they are connected, and no more of them than needed. No shard sees another one's clients; so
//! each publishes how much its clients take, by classes of size (powers of two, as in Redis), and all reckon the same way
//! from the same figures: the excess is paid by the highest class first, and in a class by the shards in their order. What falls to
//! a shard by that is its own to disconnect. Figures are as old as the last cron of the shard that published them; a client that has
//! been told to go is no longer in them, so nothing is paid twice.
//!
//! Clients that said `CLIENT NO-EVICT on` count in the sum and are never disconnected.

use super::clients::Clients;
use super::env::Env;
use crate::config::{MemoryOrPercent, Settings};
use crate::stats::{CLIENT_CLASS_COUNT, MemoryAccount, client_class};

/// The lowest limit that is obeyed: below it nobody could connect to raise it. Redis's figure.
const LIMIT_BYTES_MIN: usize = 128 * 1024;

/// Has the largest clients disconnected while all together take too much. To be called by the cron.
pub(super) fn evict_clients(clients: &mut Clients, env: &mut Env, account: &MemoryAccount) {
    let Some(limit) = client_limit(&env.settings) else {
        return;
    };
    let shard = usize::from(env.shard.0);
    let mut sum = 0;
    let mut classes = [0; CLIENT_CLASS_COUNT];
    let mut largest: Vec<(usize, u32)> = Vec::new();
    for client in clients.iter().filter(|client| !client.is_killed) {
        let bytes = client.memory().total_bytes;
        sum += bytes;
        if client.mode.is_evictable() && !client.session.is_exempt_from_eviction {
            classes[client_class(bytes)] += bytes;
            largest.push((bytes, client.place.index));
        }
    }
    account.publish_clients(shard, sum, &classes);
    let all = account.client_bytes();
    if all <= limit {
        return;
    }
    let mut duties = account.client_duties(shard, all - limit);
    largest.sort_unstable();
    for (bytes, index) in largest.into_iter().rev() {
        let duty = &mut duties[client_class(bytes)];
        if *duty == 0 {
            continue;
        }
        *duty = duty.saturating_sub(bytes);
        let Some(client) = clients.at(index) else { continue };
        tracing::info!(
            "Evicting client: id={} addr={} tot-mem={bytes}",
            client.session.id,
            client.session.address
        );
        client.is_killed = true;
        env.stats.counts.evicted_clients += 1;
        clients.list(index);
    }
}

/// `maxmemory-clients` in bytes; None: no limit.
fn client_limit(settings: &Settings) -> Option<usize> {
    let bytes = match settings.maxmemory_clients {
        MemoryOrPercent::Bytes(bytes) => bytes,
        // A part of no limit is no limit.
        MemoryOrPercent::Percent(percent) => settings.maxmemory / 100 * u64::from(percent),
    };
    (bytes > 0).then(|| usize::try_from(bytes).unwrap_or(usize::MAX).max(LIMIT_BYTES_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_number_or_a_part_of_maxmemory() {
        let limit = |clients, maxmemory| {
            client_limit(&Settings {
                maxmemory_clients: clients,
                maxmemory,
                ..Settings::default()
            })
        };
        assert_eq!(limit(MemoryOrPercent::Bytes(0), 0), None);
        assert_eq!(limit(MemoryOrPercent::Bytes(1), 0), Some(LIMIT_BYTES_MIN));
        assert_eq!(limit(MemoryOrPercent::Bytes(1 << 20), 0), Some(1 << 20));
        assert_eq!(limit(MemoryOrPercent::Percent(5), 0), None);
        assert_eq!(limit(MemoryOrPercent::Percent(5), 100 << 20), Some(5 << 20));
    }
}
