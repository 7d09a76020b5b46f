package main

import (
	"slices"
	"strings"
)

// oldWords are words people know from etcd's version 2 tools, and what to
// write today.
var oldWords = map[string]string{
	"set": "put", "mk": "put", "update": "put", "rm": "del", "delete": "del", "ls": "get --prefix",
	"cluster-health": "endpoint health --cluster", "start": "", "server": "", "status": "endpoint status",
	"health": "endpoint health", "members": "member list",
}

// laterWords are commands of etcdctl and of the README that this version does
// not have.
var laterWords = []string{
	"check", "make-mirror",
}

// maxNearWord bounds, in bytes, the words a near one is looked for: nothing
// longer is a slip of the fingers, and the search is quadratic.
const maxNearWord = 64

// didYouMean returns a hint that names the candidate nearest to word, or "".
// prefix stands before the candidate ("--" for flags).
func didYouMean(word, prefix string, candidates []string) string {
	if len(word) > maxNearWord {
		return ""
	}
	best, distance := "", 1+max(1, len(word)/3)
	for _, c := range slices.Sorted(slices.Values(candidates)) {
		if d := editDistance(word, c); d < distance {
			best, distance = c, d
		}
	}
	if best == "" && len(word) > 2 {
		i := slices.IndexFunc(candidates, func(c string) bool { return strings.Contains(c, word) })
		if i >= 0 {
			best = candidates[i]
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + prefix + best + "?"
}

// editDistance counts the insertions, deletions, replacements and swaps of
// neighbours that turn a into b (optimal string alignment).
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
