//! The texts that everyone is asked: 256, of mixed length as people write them, the same in every run.
//!
//! Most are a sentence, some are two words, a few are a page: 3 to 190 tokens, 33 on average. The spread is the point: it is what padding
//! costs a server that batches first come, first served.

/// How many.
pub(crate) const COUNT: usize = 256;

/// The number of clauses of a text, one of these in turn.
const CLAUSES: [usize; 32] =
    [1, 2, 1, 4, 2, 2, 3, 1, 7, 1, 2, 3, 13, 1, 3, 2, 4, 2, 1, 8, 1, 3, 2, 2, 1, 2, 6, 1, 2, 1, 3, 1];

const OPENINGS: [&str; 16] = [
    "ok",
    "Please call {given} {family} at +1 (415) 555-01{two} before Friday",
    "Thanks, that works for me",
    "My name is {given} {family} and I was born on {two} March 1987",
    "Write to {given}.{family}@example.com",
    "{given} moved to {city} last year",
    "Nothing to see here, the weather is fine",
    "The card ends in 42{two}, and the invoice was sent to {city}",
    "see you at noon",
    "{family}'s passport C01X0{two}47 was found on the train to {city}",
    "We met {given} and {family} in {city}",
    "Could you send the contract again?",
    "The account DE89 3704 0044 0532 0130 {two} belongs to {given} {family}",
    "no",
    "Her new address is {two} Linden Street, {city}",
    "It rained all day, so we stayed in and read the papers",
];
const GIVEN: [&str; 8] = ["Zoë", "Alex", "Jürgen", "Mary", "Ibrahim", "Siobhán", "Li", "Anaïs"];
const FAMILY: [&str; 7] = ["Müller", "Rivera", "Okafor", "Smith", "Saldaña", "Nowak", "Tanaka"];
const CITIES: [&str; 5] = ["Berlin", "Mountain View", "São Paulo", "Leeds", "Kraków"];

/// All of them, in the order in which they are asked.
pub(crate) fn all() -> Vec<String> {
    (0..COUNT).map(text).collect()
}

fn text(number: usize) -> String {
    // 7 and 32 have no divisor in common, so that every block of 32 has each length once, in an order of its own.
    let clauses = pick(&CLAUSES, number * 7 + number / CLAUSES.len());
    let clauses: Vec<String> = (0..clauses).map(|place| clause(number * 5 + place * 3 + 1)).collect();
    clauses.join(". ")
}

fn clause(number: usize) -> String {
    pick(&OPENINGS, number)
        .replace("{given}", pick(&GIVEN, number / 3))
        .replace("{family}", pick(&FAMILY, number))
        .replace("{city}", pick(&CITIES, number / 2))
        .replace("{two}", &format!("{:02}", number % 100))
}

fn pick<T: Copy>(list: &[T], number: usize) -> T {
    #[expect(
        clippy::indexing_slicing,
        reason = "the remainder of a division by the length of a list that is not empty"
    )]
    list[number % list.len()]
}
