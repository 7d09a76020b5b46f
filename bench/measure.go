package main

import (
	"fmt"
	"slices"
)

// measure is one kind of value that a load has for each system.
type measure struct {
	name   string
	digits int // behind the point
	bar    bar
}

// bar is what conclave's median has to reach. Zero: nothing.
type bar struct {
	atLeast, atMost float64 // of etcd's: the paired ratio
	itself          float64 // the value itself, at least
}

func printMeasureHeader() {
	fmt.Println("| load           | measure                         | system   | median (min–max)             | ÷ etcd | bar            |")
	fmt.Println("|----------------|---------------------------------|----------|------------------------------|--------|----------------|")
}

// print prints a measure's row for every system that has values, in Markdown.
func (m measure) print(load string, systems []string, values map[string][]float64) {
	for _, system := range systems {
		of := values[system]
		if len(of) == 0 {
			continue
		}
		ratio, verdict := "", ""
		if other := values[etcdSystem]; system != etcdSystem && len(other) > 0 {
			ratio = fmt.Sprintf("%.2f", pairedRatio(of, other))
		}
		if system == conclaveSystem {
			verdict = m.bar.verdict(of, values[etcdSystem])
		}
		fmt.Printf("| %-14s | %-31s | %-8s | %-28s | %6s | %-14s |\n", load, m.name, system,
			fmt.Sprintf("%.*f (%.*f–%.*f)", m.digits, median(of), m.digits, slices.Min(of), m.digits, slices.Max(of)),
			ratio, verdict)
	}
}

// verdict says what the bar is, and whether our values meet it.
func (b bar) verdict(ours, etcd []float64) string {
	reached := func(sign string, limit float64, met bool) string {
		if met {
			return fmt.Sprintf("%s %.2f: met", sign, limit)
		}
		return fmt.Sprintf("%s %.2f: missed", sign, limit)
	}
	switch {
	case b.itself != 0:
		return reached("≥", b.itself, median(ours) >= b.itself)
	case len(etcd) == 0:
		return ""
	case b.atLeast != 0:
		return reached("≥", b.atLeast, pairedRatio(ours, etcd) >= b.atLeast)
	case b.atMost != 0:
		return reached("≤", b.atMost, pairedRatio(ours, etcd) <= b.atMost)
	}
	return ""
}
