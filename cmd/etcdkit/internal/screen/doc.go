// Package screen is how the command speaks to whoever runs it.
//
// A [Screen] prints lines and paints parts of them. On a terminal it also keeps one line below them that it
// rewrites in place, to tell what is being waited for. Everywhere else (a file, a pipe, a log) there is neither
// colour nor a line that moves: what is printed reads the same, and can be searched.
//
// Colour is off, too, where NO_COLOR is set to anything.
package screen
