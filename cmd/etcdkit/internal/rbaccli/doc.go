// Package rbaccli is the command line of roles: etcdkit rbac. What they need to allow is in package roles.
package rbaccli
