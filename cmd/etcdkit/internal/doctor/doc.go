// Package doctor is the command line that examines a cluster: etcdkit doctor.
package doctor
