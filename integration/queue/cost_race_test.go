//go:build race

package queue_test

// costRace tells whether all is some ten times slower than it is otherwise.
const costRace = true
