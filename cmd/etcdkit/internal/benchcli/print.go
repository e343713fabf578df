package benchcli

import (
	"fmt"
	"slices"
	"time"

	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/cli"
	"github.com/etcdkit/etcdkit/cmd/etcdkit/internal/screen"
)

// result is what came of a measurement.
type result struct {
	measurement
	workers int
	took    time.Duration // altogether
	times   []time.Duration
}

func (r result) count() int { return len(r.times) }

// perSecond is how many operations were done in a second.
func (r result) perSecond() float64 { return float64(len(r.times)) / r.took.Seconds() }

// at is the duration that a share of the operations did not exceed: of the nearest rank, so that it is one that was measured.
func at(sorted []time.Duration, share float64) time.Duration {
	rank := int(share*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}

// shares are the percentiles that are told.
var shares = []float64{0.50, 0.90, 0.99, 1}

// show prints results in a table. Numbers stand below each other by their last digit.
func show(s *screen.Screen, results []result) {
	header := []string{"MEASURED", "CLIENTS", "COUNT", "PER SECOND", "P50", "P90", "P99", "MAX"}
	rows := make([][]string, len(results))
	for i, r := range results {
		row := []string{r.name, fmt.Sprint(r.workers), fmt.Sprint(r.count()), fmt.Sprintf("%.1f", r.perSecond())}
		sorted := slices.Sorted(slices.Values(r.times))
		for _, share := range shares {
			row = append(row, fmt.Sprintf("%.2f ms", float64(at(sorted, share))/float64(time.Millisecond)))
		}
		rows[i] = row
	}
	for column := 3; column < len(header); column++ {
		width := len(header[column])
		for _, row := range rows {
			width = max(width, len(row[column]))
		}
		header[column] = fmt.Sprintf("%*s", width, header[column])
		for _, row := range rows {
			row[column] = fmt.Sprintf("%*s", width, row[column])
		}
	}
	cli.Table(s, header, rows)
}

// facts is a result for programs.
type facts struct {
	Measured  string  `json:"measured"`
	Operation string  `json:"operation"`
	Clients   int     `json:"clients"`
	Count     int     `json:"count"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
	P50       float64 `json:"p50Seconds"`
	P90       float64 `json:"p90Seconds"`
	P99       float64 `json:"p99Seconds"`
	Max       float64 `json:"maxSeconds"`
}

func (r result) facts() facts {
	sorted := slices.Sorted(slices.Values(r.times))
	seconds := func(share float64) float64 { return at(sorted, share).Seconds() }
	return facts{
		r.name, r.operation, r.workers, r.count(), r.took.Seconds(), r.perSecond(),
		seconds(shares[0]), seconds(shares[1]), seconds(shares[2]), seconds(shares[3]),
	}
}
