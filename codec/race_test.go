//go:build race

package codec

// The race detector makes code some ten times slower, and sync.Pool forgetful.
const raceEnabled = true
