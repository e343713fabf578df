package registry_test

import (
	"context"
	"log"
	"net"
	"net/http"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdkit/etcdkit/registry"
)

// A caller that has something of its own to send: it says how each pick has ended.
func ExampleNewPicker() {
	ctx := context.Background()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	mail, err := registry.Watch(ctx, client, "mail", nil)
	if err != nil {
		panic(err)
	}
	defer mail.Close()
	picker := registry.NewPicker(mail, registry.LeastLoaded, &registry.PickOptions{Zone: "eu-1"})

	send := func(message string) error {
		pick, err := picker.Pick("")
		if err != nil {
			return err // no instance is ready, and why
		}
		conn, err := net.DialTimeout("tcp", pick.Instance.Addr, time.Second)
		if err == nil {
			_, err = conn.Write([]byte(message))
			conn.Close()
		}
		pick.Done(err)
		return err
	}
	if err := send("hello"); err != nil {
		log.Print(err)
	}
}

// An HTTP client for which the host of a URL is a service.
func ExampleTransport() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"localhost:2379"}})
	if err != nil {
		panic(err)
	}
	defer client.Close()

	transport := registry.NewTransport(client, nil)
	defer transport.Close()
	services := &http.Client{Transport: transport, Timeout: 3 * time.Second}

	resp, err := services.Get("http://mail/inbox/42")
	if err != nil {
		log.Print(err)
		return
	}
	defer resp.Body.Close()
	log.Print(resp.Status)
}
