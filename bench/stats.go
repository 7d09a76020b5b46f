package main

import (
	"slices"
	"time"
)

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// median of at least one value; of an even number, the mean of the middle two.
func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// percentile p (0 to 1) of sorted durations: the smallest that at least that
// share does not exceed (nearest rank).
func percentile(sorted []time.Duration, p float64) time.Duration {
	rank := int(p * float64(len(sorted)))
	if float64(rank) < p*float64(len(sorted)) {
		rank++
	}
	return sorted[max(rank, 1)-1]
}

// pairedRatio is the median, over rounds, of a[i]/b[i]: what disturbs a whole
// round disturbs both sides of its ratio.
func pairedRatio(a, b []float64) float64 {
	var ratios []float64
	for i := range min(len(a), len(b)) {
		ratios = append(ratios, a[i]/b[i])
	}
	return median(ratios)
}
