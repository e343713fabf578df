//go:build !race

package queue_test

const costRace = false
