// peer-asio: the echo on standalone asio as a competent user writes it. A session reads what is
// there, hands every whole frame to on_message, which appends the answer to a batch, and sends the
// batch with one async_write; it reads again when the batch is out, so a client that does not read
// is not read from. One thread, told to the io_context; the pending operation owns the session.
#include "peer.h"

#include <asio.hpp>

#include <cstdio>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

using asio::ip::tcp;

class Session : public std::enable_shared_from_this<Session> {
  public:
    explicit Session(tcp::socket socket) : socket_(std::move(socket)), input_(first_room) {
    }

    void read() {
        auto room = asio::buffer(input_.data() + filled_, input_.size() - filled_);
        socket_.async_read_some(
            room, [self = shared_from_this()](const asio::error_code &error, std::size_t count) {
                if (!error) {
                    self->on_bytes(count);
                }
            });
    }

  private:
    static constexpr std::size_t first_room = 8 * 1024;

    void on_bytes(std::size_t count) {
        filled_ += count;
        std::size_t at = 0;
        while (filled_ - at >= peer_frame_header) {
            const std::size_t frame = peer_frame_size(input_.data() + at);
            if (frame == 0) {
                return; // over the limit: with no operation pending the session ends here
            }
            if (filled_ - at < frame) {
                if (frame > input_.size()) {
                    input_.resize(frame);
                }
                break;
            }
            on_message(input_.data() + at, frame);
            at += frame;
        }
        filled_ -= at;
        if (filled_ != 0 && at != 0) {
            std::memmove(input_.data(), input_.data() + at, filled_);
        }
        if (batch_.empty()) {
            read();
        } else {
            write();
        }
    }

    void on_message(const unsigned char *frame, std::size_t size) {
        batch_.insert(batch_.end(), frame, frame + size);
    }

    void write() {
        asio::async_write(socket_, asio::buffer(batch_),
            [self = shared_from_this()](const asio::error_code &error, std::size_t) {
                if (!error) {
                    self->batch_.clear();
                    self->read();
                }
            });
    }

    tcp::socket socket_;
    std::vector<unsigned char> input_;
    std::size_t filled_ = 0;
    std::vector<unsigned char> batch_;
};

class Listener {
  public:
    Listener(asio::io_context &context, std::uint16_t port) : acceptor_(context) {
        const tcp::endpoint here(asio::ip::address_v4::loopback(), port);
        acceptor_.open(here.protocol());
        acceptor_.set_option(tcp::acceptor::reuse_address(true));
        acceptor_.bind(here);
        acceptor_.listen(peer_backlog);
        peer_announce(acceptor_.native_handle());
        accept();
    }

  private:
    void accept() {
        acceptor_.async_accept([this](const asio::error_code &error, tcp::socket client) {
            if (!error) {
                asio::error_code ignored; // the client may be gone already; the first read says so
                client.set_option(tcp::no_delay(true), ignored);
                std::make_shared<Session>(std::move(client))->read();
            }
            accept();
        });
    }

    tcp::acceptor acceptor_;
};

int main(int argc, char **argv) {
    const std::uint16_t port = peer_start(argc, argv);
    try {
        asio::io_context context(1);
        const Listener listener(context, port);
        context.run();
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
