"""Constants of root cause analysis."""

from __future__ import annotations

MIN_SCORE = 0.02  # abstain below two hundredths of a usual request

# a failed request costs as much as five usual requests: users feel it more than a delay
FAILURE_WEIGHT = 5.0

N_SIGMA = 3.0  # standard errors that an excess must exceed

# calls to all services are slow for one reason if each takes longer by such a part of the most
SIMILAR_RATIO = 0.3

# a request that usually takes less counts as this: half a millisecond more of 2 ms is no trouble
MIN_USUAL_MS = 10.0
