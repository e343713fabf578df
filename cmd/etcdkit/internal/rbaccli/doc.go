// Package rbaccli is the command line of roles: etcdkit rbac.
package rbaccli
