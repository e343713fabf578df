// Package servicecli is the command line of services: etcdkit services, register and drain.
package servicecli
