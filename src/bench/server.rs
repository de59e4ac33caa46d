//! A server: queries arrive at random and wait until the ones before them are answered.
//!
//! It knows nothing about models: a query is a call. The clock is a parameter, so that queues can be tested
//! without waiting.

use std::time::{Duration, Instant};

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::stats::{Percentile, percentiles};

/// Minimum number of queries from which a 99th percentile is judged.
const MIN_QUERIES: usize = 1_000;

/// Number of successive queries whose latencies form one group for a confidence interval, because latencies
/// within a busy period are correlated.
const TURN: usize = 50;

/// Steps of the search for the highest rate; each halves the range between a rate that holds and one that does
/// not.
const SEARCH_STEPS: usize = 8;

/// How often a rate that was found is tried again, in a longer trial and lowered by this share each time, before
/// the search gives up.
const CONFIRMATIONS: usize = 10;
const STEP_BACK: f64 = 0.05;

/// A longer trial has this many times the queries.
const LONGER: usize = 3;

/// Last part of the wait for a query's arrival, spent spinning because sleeping is less precise.
const SPIN_NS: u64 = 200_000;

/// A source of time.
pub trait Clock {
    /// Nanoseconds since a fixed time.
    fn now(&self) -> u64;
    /// Returns at the time `then`, or at once if it has passed.
    fn wait_until(&self, then: u64);
}

/// The machine's monotonic clock.
pub struct Monotonic(Instant);

impl Monotonic {
    pub fn start() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Monotonic {
    fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }

    fn wait_until(&self, then: u64) {
        let left = then.saturating_sub(self.now());
        if left > SPIN_NS {
            std::thread::sleep(Duration::from_nanos(left - SPIN_NS));
        }
        while self.now() < then {
            std::hint::spin_loop();
        }
    }
}

/// Results of a server at one rate. Latency is from arrival to answer, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Mean number of queries that arrive per second.
    pub rate: f64,
    pub queries: usize,
    pub mean_ms: f64,
    pub p50: Option<Percentile>,
    pub p90: Option<Percentile>,
    pub p99: Option<Percentile>,
    /// Share of the time during which the server was busy with a query.
    pub utilisation: f64,
    /// Whether the upper bound of the 99th percentile is within the target.
    pub held: Option<bool>,
}

/// The highest rate that meets a target, and all rates that were tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    pub p99_target_ms: f64,
    /// The last trial, which is longer than the others; `None` if no rate met the target.
    pub highest: Option<Trial>,
    pub trials: Vec<Trial>,
}

/// Arrival rate, number of queries and latency target of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Mean rate, per second.
    pub rate: f64,
    pub queries: usize,
    /// A trial that exceeds this duration ends with the queries it has.
    pub max_seconds: f64,
    /// Target for the 99th percentile.
    pub target_ms: Option<f64>,
    /// Whether a trial ends as soon as it can no longer meet the target.
    pub give_up: bool,
    pub seed: u64,
}

/// Serves queries that arrive by a Poisson process until the load's number of queries or its time limit is
/// reached.
///
/// # Errors
/// The first error of `answer`.
pub fn serve(answer: &mut dyn FnMut() -> Result<()>, clock: &dyn Clock, load: &Load) -> Result<Trial> {
    let Load { rate, queries, max_seconds, target_ms, give_up, seed } = *load;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut latencies = Vec::with_capacity(queries);
    // The first run refills the caches and is not counted.
    answer()?;
    let start = clock.now();
    let (mut arrival, mut busy, mut late) = (0.0, 0, 0);
    // Twice the number of late queries that a 99th percentile allows, plus a margin for small numbers of
    // queries.
    let hopeless = queries / 50 + 10;
    let over = (max_seconds * 1e9) as u64;
    while latencies.len() < queries && !(give_up && late > hopeless) && clock.now() - start < over {
        // The gaps of a Poisson process are exponential; the share is never 0.
        let share = (f64::from(rng.next_u32()) + 1.0) / 2f64.powi(32);
        arrival += -share.ln() / rate * 1e9;
        let arrives = start + arrival as u64;
        clock.wait_until(arrives);
        let begins = clock.now();
        answer()?;
        let ends = clock.now();
        busy += ends - begins;
        let latency_ms = (ends - arrives.min(begins)) as f64 * 1e-6;
        late += usize::from(target_ms.is_some_and(|target| latency_ms > target));
        latencies.push(latency_ms);
    }
    let elapsed = clock.now() - start;
    let utilisation = busy as f64 / elapsed.max(1) as f64;
    Ok(judged(&latencies, rate, utilisation, target_ms, latencies.len() == queries && late <= hopeless))
}

fn judged(latencies: &[f64], rate: f64, utilisation: f64, target_ms: Option<f64>, whole: bool) -> Trial {
    let turns = vec![TURN; latencies.len().div_ceil(TURN)];
    let found = percentiles(latencies, &turns, &[0.5, 0.9, 0.99]);
    let within = |target: f64| {
        let bound = found[2].and_then(|p99| p99.high);
        whole && bound.is_some_and(|bound| bound <= target)
    };
    Trial {
        rate,
        queries: latencies.len(),
        mean_ms: latencies.iter().sum::<f64>() / latencies.len().max(1) as f64,
        p50: found[0],
        p90: found[1],
        p99: found[2],
        utilisation,
        held: target_ms.map(within),
    }
}

/// Number of queries in a trial of this duration.
pub fn queries_for(rate: f64, seconds: f64) -> usize {
    ((rate * seconds) as usize).max(MIN_QUERIES)
}

/// Searches for the highest rate at which the 99th percentile is within a target; `load` gives the limits;
/// its rate is ignored. The search halves the range between zero and the rate that would keep the server busy
/// all the time (`service_ms` per query), then runs a longer trial at the rate found. A trial lasts `seconds`
/// or more.
///
/// # Errors
/// The errors of [`serve`], or that of `step`, which is called before every trial.
pub fn highest_rate(
    answer: &mut dyn FnMut() -> Result<()>,
    clock: &dyn Clock,
    service_ms: f64,
    seconds: f64,
    load: &Load,
    mut step: impl FnMut() -> Result<()>,
) -> Result<Search> {
    let mut trials: Vec<Trial> = Vec::new();
    let mut tried = |rate: f64, longer: usize, trials: &mut Vec<Trial>| -> Result<bool> {
        step()?;
        let trial = serve(
            answer,
            clock,
            &Load {
                rate,
                queries: longer * queries_for(rate, seconds),
                max_seconds: longer as f64 * load.max_seconds,
                seed: load.seed.wrapping_add(trials.len() as u64),
                ..*load
            },
        )?;
        let held = trial.held == Some(true);
        trials.push(trial);
        Ok(held)
    };
    let (mut low, mut high) = (0.0, 1e3 / service_ms);
    for _ in 0..SEARCH_STEPS {
        let rate = f64::midpoint(low, high);
        if tried(rate, 1, &mut trials)? { low = rate } else { high = rate }
    }
    let mut highest = None;
    let mut rate = low;
    for _ in 0..CONFIRMATIONS {
        if rate == 0.0 {
            break;
        }
        if tried(rate, LONGER, &mut trials)? {
            highest = trials.last().cloned();
            break;
        }
        rate *= 1.0 - STEP_BACK;
    }
    Ok(Search { p99_target_ms: load.target_ms.unwrap_or_default(), highest, trials })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const LOAD: Load =
        Load { rate: 1.0, queries: 100_000, max_seconds: 1e6, target_ms: None, give_up: false, seed: 1 };

    /// A clock that only advances when it is waited for or a query is served.
    #[derive(Default)]
    struct Still(Cell<u64>);

    impl Clock for Still {
        fn now(&self) -> u64 {
            self.0.get()
        }

        fn wait_until(&self, then: u64) {
            self.0.set(self.0.get().max(then));
        }
    }

    /// An M/D/1 queue, in which the mean wait is ρ/(2(1-ρ)) times the service time (Pollaczek–Khinchine).
    #[test]
    fn a_queue_of_equal_queries_waits_as_long_as_theory_says() {
        for load in [0.3, 0.6, 0.8] {
            let clock = Still::default();
            let mut answer = || {
                clock.0.set(clock.0.get() + 1_000_000);
                Ok(())
            };
            let queries = 200_000;
            let trial = serve(&mut answer, &clock, &Load { rate: load * 1e3, queries, ..LOAD }).unwrap();
            assert!((trial.utilisation - load).abs() < 0.01, "{load}: {}", trial.utilisation);
            let theory = 1.0 + load / (2.0 * (1.0 - load));
            assert!((trial.mean_ms / theory - 1.0).abs() < 0.03, "{load}: {} for {theory}", trial.mean_ms);
            // At 0.3 most queries do not wait.
            let p50 = trial.p50.unwrap().value;
            assert_eq!(p50 < 1.001, load < 0.5, "{load}: {p50}");
            assert_eq!((trial.queries, trial.held), (queries, None));
        }
    }

    #[test]
    fn the_highest_rate_is_found() {
        let mut found = Vec::new();
        for target in [2.0, 5.0, 20.0] {
            let clock = Still::default();
            let mut answer = || {
                clock.0.set(clock.0.get() + 1_000_000);
                Ok(())
            };
            let wanted = Load { target_ms: Some(target), give_up: true, ..LOAD };
            let search = highest_rate(&mut answer, &clock, 1.0, 10.0, &wanted, || Ok(())).unwrap();
            let highest = search.highest.unwrap();
            assert!(highest.p99.unwrap().high.unwrap() <= target);
            // At a rate a tenth higher the target is missed.
            let above = serve(&mut answer, &clock, &Load { rate: 1.1 * highest.rate, ..LOAD }).unwrap();
            assert!(above.p99.unwrap().value > 0.9 * target, "{target}: {above:?}");
            found.push(highest.rate);
        }
        assert!(found[0] < found[1] && found[1] < found[2] && found[2] < 1_000.0, "{found:?}");
    }

    #[test]
    fn too_many_queries_end_in_time() {
        let clock = Still::default();
        let mut answer = || {
            clock.0.set(clock.0.get() + 1_000_000);
            Ok(())
        };
        let load = Load { rate: 1e9, max_seconds: 2.0, target_ms: Some(1e9), ..LOAD };
        let trial = serve(&mut answer, &clock, &load).unwrap();
        assert_eq!(
            (trial.queries, trial.held),
            (2_000, Some(false)),
            "a trial that was cut short does not hold"
        );
        assert!(trial.p99.unwrap().value > 1_900.0 && trial.utilisation > 0.99);
    }

    #[test]
    fn a_target_below_the_service_is_never_held() {
        let clock = Still::default();
        let mut answer = || {
            clock.0.set(clock.0.get() + 1_000_000);
            Ok(())
        };
        let wanted = Load { target_ms: Some(0.5), give_up: true, ..LOAD };
        let search = highest_rate(&mut answer, &clock, 1.0, 1.0, &wanted, || Ok(())).unwrap();
        assert_eq!(search.highest, None);
        assert!(search.trials.iter().all(|trial| trial.queries < 200), "hopeless trials end early");
    }
}
