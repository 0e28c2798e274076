// What Sphinx's search scores by: its own numbers, but for pages of reference, which come after those that explain.
var Scorer = {
  score: ([page, , , , score]) => (/^(api\/|changelog|how_it_is_tested|deprecations)/.test(page) ? score - 20 : score),
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
