//go:build race

package config_test

// raceEnabled tells whether all is some ten times slower than it is otherwise.
const raceEnabled = true
