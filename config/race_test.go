//go:build race

package config

// The race detector makes code some ten times slower, and allocates.
const raceEnabled = true
