// Package roles knows what etcd has to allow to those who use etcdkit's recipes: the one table of it in code.
//
// # Model
//
// A [Recipe] is one way to take part: to hold a lock, to be an instance of a service, to publish configuration.
// [Recipe.Needs] returns the least permissions that it takes, as docs/keys.md lays the keys out; that all of them are needed, and
// nothing else, is tested with every recipe. [Allows] tells whether some permissions include another.
//
// # Limits
//
// Permissions are for ranges of keys. Where all who take part write below one prefix, as in a line, they can do so to
// each other's keys: [Recipe.Others] says what that comes to. What a program writes besides, under a guard or in the transaction of an
// Ack, needs permissions of its own.
package roles
